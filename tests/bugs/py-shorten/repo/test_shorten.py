import unittest

from shorten import fit_bytes, fit_characters, fit_lines


class ShortenTest(unittest.TestCase):
    def test_characters(self):
        self.assertEqual(fit_characters("short", 10), "short")
        self.assertEqual(fit_characters("one two three four", 12), "one two...")

    def test_bytes(self):
        self.assertEqual(fit_bytes("abc", 3), "abc")
        self.assertEqual(fit_bytes("abcdef", 4), "abcd")
        self.assertEqual(fit_bytes("äöü", 4), "äö")

    def test_lines(self):
        self.assertEqual(fit_lines("a\nb\nc", 2), ("a\nb", 1))
