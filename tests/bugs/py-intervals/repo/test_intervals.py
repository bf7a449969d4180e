import unittest

from intervals import gaps, merge, total


class IntervalsTest(unittest.TestCase):
    def test_overlaps_and_touching(self):
        self.assertEqual(merge([(5, 7), (1, 3), (2, 4), (4, 5)]), [(1, 7)])

    def test_apart(self):
        self.assertEqual(merge([(1, 2), (4, 6)]), [(1, 2), (4, 6)])

    def test_nested(self):
        self.assertEqual(merge([(9, 17), (10, 11)]), [(9, 17)])

    def test_gaps(self):
        self.assertEqual(gaps([(2, 3)], 0, 5), [(0, 2), (3, 5)])
