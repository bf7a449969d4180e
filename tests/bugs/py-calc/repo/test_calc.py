import unittest

from calc import calculate


class CalcTest(unittest.TestCase):
    def test_precedence(self):
        self.assertEqual(calculate("1 + 2 * 3"), 7)
        self.assertEqual(calculate("(1 + 2) * 3"), 9)
        self.assertEqual(calculate("2 ^ 3 ^ 2"), 512)

    def test_from_left_to_right(self):
        self.assertEqual(calculate("10 - 4 - 3"), 3)

    def test_errors(self):
        for text in ("1 +", "(1", "1 2", "$"):
            with self.assertRaises(ValueError):
                calculate(text)
