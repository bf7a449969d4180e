import unittest

from csvline import join, split


class Quotes(unittest.TestCase):
    def test_quotes_are_doubled(self):
        self.assertEqual(join(['Bob "Bobby" Tables', "x"]), '"Bob ""Bobby"" Tables",x')

    def test_round_trip(self):
        for fields in (['"'], ['""', "a"], ['a "b", c', "d"], [" x "], ["a;b"]):
            self.assertEqual(split(join(fields)), fields)

    def test_fields_without_need_stay_bare(self):
        self.assertEqual(join(["a b", "c"]), "a b,c")
