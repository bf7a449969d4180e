import unittest

from slug import slugify, unique


class SlugTest(unittest.TestCase):
    def test_words_are_joined(self):
        self.assertEqual(slugify("Hello, World"), "hello-world")

    def test_accents_are_taken_off(self):
        self.assertEqual(slugify("Crème Brûlée"), "creme-brulee")

    def test_taken_slugs_get_a_number(self):
        self.assertEqual(unique("News", {"news", "news-2"}), "news-3")
