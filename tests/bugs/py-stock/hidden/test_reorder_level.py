import unittest

from stock.report import render, to_order
from stock.store import Store


class ReorderLevel(unittest.TestCase):
    def test_at_the_level(self):
        store = Store()
        store.add("screws", 20, reorder_level=20)
        self.assertEqual(to_order(store), [("screws", 20)])
        self.assertEqual(render(store), "screws: order 20")

    def test_above_the_level(self):
        store = Store()
        store.add("screws", 21, reorder_level=20)
        self.assertEqual(to_order(store), [])

    def test_level_zero_is_never_ordered(self):
        store = Store()
        store.add("sample", 0)
        self.assertEqual(to_order(store), [])
