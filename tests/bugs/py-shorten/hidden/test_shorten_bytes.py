import unittest

from shorten import fit_bytes


class Bytes(unittest.TestCase):
    def test_every_limit_of_a_mixed_text(self):
        text = "aé€𝄞z Grüße"
        for limit in range(len(text.encode()) + 2):
            cut = fit_bytes(text, limit)
            self.assertLessEqual(len(cut.encode()), limit)
            self.assertTrue(text.startswith(cut))
            if cut != text:
                self.assertGreater(len(text[: len(cut) + 1].encode()), limit)
