import unittest

from template import UnknownFilter, render


class Default(unittest.TestCase):
    def test_missing_and_empty(self):
        self.assertEqual(render("Hello {name|default:there}", {}), "Hello there")
        self.assertEqual(render("Hello {name|default:there}", {"name": ""}), "Hello there")

    def test_known(self):
        self.assertEqual(render("Hello {name|default:there}", {"name": "Ada"}), "Hello Ada")

    def test_with_other_filters(self):
        self.assertEqual(render("{name|default:old friend|upper}", {}), "OLD FRIEND")
        self.assertEqual(render("{name|default:x|lower}", {"name": "ADA"}), "ada")

    def test_without_it_all_is_as_before(self):
        with self.assertRaises(KeyError):
            render("{name|upper}", {})
        with self.assertRaises(UnknownFilter):
            render("{a|shout}", {"a": "x"})
