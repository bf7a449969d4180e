import unittest

from slug import slugify


class Slugs(unittest.TestCase):
    def test_lower_case(self):
        self.assertEqual(slugify("Widgets"), "widgets")

    def test_one_hyphen(self):
        self.assertEqual(slugify("a - b"), "a-b")


if __name__ == "__main__":
    unittest.main()
