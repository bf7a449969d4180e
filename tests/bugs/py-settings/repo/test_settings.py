import unittest

from settings import load, merged
from settings.defaults import DEFAULTS


class SettingsTest(unittest.TestCase):
    def test_override(self):
        settings = load({"name": "shop", "log": {"level": "debug"}})
        self.assertEqual(settings["name"], "shop")
        self.assertEqual(settings["log"]["level"], "debug")
        self.assertEqual(settings["server"]["host"], "localhost")

    def test_defaults_stay(self):
        load({"server": {"port": 9000}})
        self.assertEqual(load({})["server"]["port"], 8080)
