import unittest

from intervals import gaps, merge, total


class Nested(unittest.TestCase):
    def test_several_inside_one(self):
        self.assertEqual(merge([(0, 10), (1, 2), (3, 4), (9, 12)]), [(0, 12)])

    def test_total_counts_once(self):
        self.assertEqual(total([(0, 10), (2, 3)]), 10)

    def test_gaps_after_a_nested_one(self):
        self.assertEqual(gaps([(0, 8), (1, 2)], 0, 10), [(8, 10)])

    def test_touching_still_joins(self):
        self.assertEqual(merge([(1, 2), (2, 3)]), [(1, 3)])
