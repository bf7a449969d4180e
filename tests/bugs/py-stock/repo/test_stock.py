import unittest

from stock.report import render, to_order
from stock.store import Store, UnknownArticle


class StockTest(unittest.TestCase):
    def setUp(self):
        self.store = Store()
        self.store.add("bolts", 50, reorder_level=10)
        self.store.add("nuts", 3, reorder_level=10)

    def test_below_the_level(self):
        self.assertEqual(to_order(self.store), [("nuts", 17)])

    def test_taking(self):
        self.store.take("bolts", 20)
        self.assertEqual(self.store.article("bolts")["quantity"], 30)
        with self.assertRaises(ValueError):
            self.store.take("bolts", 31)
        with self.assertRaises(UnknownArticle):
            self.store.take("gears", 1)

    def test_nothing_to_order(self):
        self.assertEqual(render(Store()), "nothing to order")
