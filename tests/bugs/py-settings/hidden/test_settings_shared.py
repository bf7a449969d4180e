import copy
import unittest

from settings import load, merged
from settings.defaults import DEFAULTS


class Shared(unittest.TestCase):
    def test_neither_side_is_changed(self):
        before = copy.deepcopy(DEFAULTS)
        override = {"server": {"port": 1, "tls": {"on": True}}}
        settings = load(override)
        self.assertEqual(settings["server"], {"host": "localhost", "port": 1, "tls": {"on": True}})
        self.assertEqual(DEFAULTS, before)

    def test_deeper_sections(self):
        base = {"a": {"b": {"c": 1, "d": 2}}}
        self.assertEqual(merged(base, {"a": {"b": {"c": 3}}}), {"a": {"b": {"c": 3, "d": 2}}})
        self.assertEqual(base, {"a": {"b": {"c": 1, "d": 2}}})

    def test_lists_of_the_result_are_its_own(self):
        load({})["log"]["targets"].append("file")
        self.assertEqual(load({})["log"]["targets"], ["stderr"])
