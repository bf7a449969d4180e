import unittest

from calc import calculate


class Order(unittest.TestCase):
    def test_sums(self):
        self.assertEqual(calculate("10 - 4 - 3"), 3)
        self.assertEqual(calculate("1 - 2 + 3 - 4"), -2)

    def test_products(self):
        self.assertEqual(calculate("16 / 4 / 4"), 1)
        self.assertEqual(calculate("8 / 4 * 2"), 4)

    def test_mixed(self):
        self.assertEqual(calculate("20 - 6 / 3 - -1 * 2"), 20)
        self.assertEqual(calculate("2 ^ 2 ^ 3 - 1 - 1"), 254)
