"""Nested settings with overrides."""

from .merge import load, merged

__all__ = ["load", "merged"]
