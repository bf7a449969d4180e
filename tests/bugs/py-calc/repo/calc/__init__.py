"""A calculator."""

from .evaluate import calculate

__all__ = ["calculate"]
