import unittest

from filesize import format_size, parse_size


class FormatSize(unittest.TestCase):
    def test_small_counts_are_bytes(self):
        self.assertEqual(format_size(0), "0 B")
        self.assertEqual(format_size(1023), "1023 B")

    def test_between_units(self):
        self.assertEqual(format_size(1536), "1.5 KiB")

    def test_exactly_one_kibibyte(self):
        self.assertEqual(format_size(1024), "1.0 KiB")


class ParseSize(unittest.TestCase):
    def test_units(self):
        self.assertEqual(parse_size("2 MiB"), 2 * 1024 * 1024)
        self.assertEqual(parse_size("12"), 12)
