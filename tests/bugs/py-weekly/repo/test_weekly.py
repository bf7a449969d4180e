import unittest
from datetime import datetime

from weekly import next_run, parse, upcoming

WEDNESDAY = datetime(2024, 5, 15, 12, 30)


class WeeklyTest(unittest.TestCase):
    def test_parse(self):
        self.assertEqual(parse("Fri 18"), (4, 18))
        with self.assertRaises(ValueError):
            parse("fri 24")

    def test_later_this_week(self):
        self.assertEqual(next_run("fri 18", WEDNESDAY), datetime(2024, 5, 17, 18))

    def test_earlier_in_the_week_is_next_week(self):
        self.assertEqual(next_run("mon 8", WEDNESDAY), datetime(2024, 5, 20, 8))

    def test_order(self):
        plans = [plan for _, plan in upcoming(["mon 8", "thu 1"], WEDNESDAY)]
        self.assertEqual(plans, ["thu 1", "mon 8"])
