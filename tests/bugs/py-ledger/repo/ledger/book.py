"""A ledger: an owner and a list of entries."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One line of a ledger; `cents` is negative for what was paid."""

    text: str
    cents: int


class Ledger:
    """The entries of one owner, in the order in which they were made."""

    def __init__(self, owner, entries=[]):
        self.owner = owner
        self.entries = entries

    def add(self, text, cents):
        """Append an entry and return it."""
        if not text.strip():
            raise ValueError("an entry needs a text")
        entry = Entry(text.strip(), int(cents))
        self.entries.append(entry)
        return entry

    def balance(self):
        """Return the sum of all entries in cents."""
        return sum(entry.cents for entry in self.entries)

    def spent(self):
        """Return what was paid, as a positive number of cents."""
        return -sum(entry.cents for entry in self.entries if entry.cents < 0)
