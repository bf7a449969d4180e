import unittest

from ledger import Ledger, render


class LedgerTest(unittest.TestCase):
    def test_a_book_is_summed_and_rendered(self):
        ledger = Ledger("ada")
        ledger.add("salary", 100_000)
        ledger.add(" rent ", -50_005)
        self.assertEqual(ledger.balance(), 49_995)
        self.assertEqual(ledger.spent(), 50_005)
        self.assertEqual(render(ledger), "salary: 1000.00\nrent: -500.05\nbalance of ada: 499.95")

    def test_an_entry_needs_a_text(self):
        with self.assertRaises(ValueError):
            Ledger("bob", []).add("  ", 1)
