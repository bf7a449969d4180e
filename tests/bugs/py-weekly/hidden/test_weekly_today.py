import unittest
from datetime import datetime

from weekly import next_run

WEDNESDAY = datetime(2024, 5, 15, 12, 30)


class Today(unittest.TestCase):
    def test_hour_has_passed(self):
        self.assertEqual(next_run("wed 8", WEDNESDAY), datetime(2024, 5, 22, 8))
        self.assertEqual(next_run("wed 12", WEDNESDAY), datetime(2024, 5, 22, 12))

    def test_hour_is_now(self):
        self.assertEqual(next_run("wed 12", datetime(2024, 5, 15, 12)), datetime(2024, 5, 22, 12))

    def test_later_today(self):
        self.assertEqual(next_run("wed 13", WEDNESDAY), datetime(2024, 5, 15, 13))
