import unittest

from ledger import Entry, Ledger


class SeparateLedgers(unittest.TestCase):
    def test_two_ledgers_share_nothing(self):
        first, second = Ledger("a"), Ledger("b")
        first.add("x", 1)
        self.assertEqual(second.entries, [])
        self.assertEqual(Ledger("c").balance(), 0)

    def test_given_entries_are_kept(self):
        self.assertEqual(Ledger("a", [Entry("x", 3)]).balance(), 3)
