"""A small cache that forgets what was not used for longest."""

from collections import OrderedDict


class LruCache:
    """At most `capacity` entries; `get` and `put` are uses."""

    def __init__(self, capacity):
        if capacity < 1:
            raise ValueError("the capacity is at least 1")
        self.capacity = capacity
        self.hits = 0
        self.misses = 0
        self._entries = OrderedDict()

    def get(self, key, default=None):
        """Return the value of `key`, or `default` if it is not here."""
        if key not in self._entries:
            self.misses += 1
            return default
        self.hits += 1
        return self._entries[key]

    def put(self, key, value):
        """Store a value; the entry that was not used for longest may have to go."""
        if key in self._entries:
            self._entries.move_to_end(key)
        self._entries[key] = value
        if len(self._entries) > self.capacity:
            self._entries.popitem(last=False)

    def __contains__(self, key):
        return key in self._entries

    def __len__(self):
        return len(self._entries)
