import unittest

from lru import LruCache


class LruCacheTest(unittest.TestCase):
    def test_the_oldest_goes(self):
        cache = LruCache(2)
        for key in "abc":
            cache.put(key, key.upper())
        self.assertNotIn("a", cache)
        self.assertEqual(cache.get("c"), "C")

    def test_counts(self):
        cache = LruCache(1)
        cache.put("a", None)
        cache.get("a")
        self.assertEqual(cache.get("b", 7), 7)
        self.assertEqual((cache.hits, cache.misses), (1, 1))
