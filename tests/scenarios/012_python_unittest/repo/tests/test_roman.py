import unittest

from roman import roman


class Romans(unittest.TestCase):
    def test_four(self):
        self.assertEqual(roman(4), "IV")
        self.assertEqual(roman(19), "XIX")
