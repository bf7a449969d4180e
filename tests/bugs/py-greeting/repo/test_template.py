import unittest

from template import UnknownFilter, render


class TemplateTest(unittest.TestCase):
    def test_filled(self):
        self.assertEqual(render("{a} and {b|upper}", {"a": 1, "b": "two"}), "1 and TWO")

    def test_unknown(self):
        with self.assertRaises(KeyError):
            render("{nobody}", {})
        with self.assertRaises(UnknownFilter):
            render("{a|shout}", {"a": "x"})
