import unittest

from csvline import Broken, join, split


class CsvLineTest(unittest.TestCase):
    def test_plain(self):
        self.assertEqual(join(["a", 1, ""]), "a,1,")
        self.assertEqual(split("a,1,"), ["a", "1", ""])

    def test_separator_in_a_field(self):
        self.assertEqual(join(["a,b", "c"]), '"a,b",c')
        self.assertEqual(split('"a,b",c'), ["a,b", "c"])

    def test_doubled_quotes_are_read(self):
        self.assertEqual(split('"say ""hi""",x'), ['say "hi"', "x"])

    def test_open_quote(self):
        with self.assertRaises(Broken):
            split('"a')
