import unittest

from filesize import UNITS, format_size, parse_size


class Bounds(unittest.TestCase):
    def test_each_unit_begins_at_one(self):
        for index, unit in enumerate(UNITS[1:], start=1):
            self.assertEqual(format_size(1024**index), f"1.0 {unit}")

    def test_the_last_unit_has_no_bound(self):
        self.assertEqual(format_size(1024**5), "1024.0 TiB")

    def test_just_below(self):
        self.assertEqual(format_size(1023), "1023 B")

    def test_round_trip(self):
        for size in (1024, 1024**2, 3 * 1024**3):
            self.assertEqual(parse_size(format_size(size)), size)
