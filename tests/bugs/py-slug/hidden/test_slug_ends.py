import unittest

from slug import slugify


class SlugEnds(unittest.TestCase):
    def test_no_dash_at_the_ends(self):
        self.assertEqual(slugify('"Hello" (again)'), "hello-again")
        self.assertEqual(slugify("  spaced  "), "spaced")

    def test_nothing_left(self):
        self.assertEqual(slugify("!!!"), "untitled")

    def test_words_inside_stay_apart(self):
        self.assertEqual(slugify("a--b__c"), "a-b-c")
