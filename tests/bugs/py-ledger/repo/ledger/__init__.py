"""Books of entries and their summary."""

from .book import Entry, Ledger
from .summary import render

__all__ = ["Entry", "Ledger", "render"]
