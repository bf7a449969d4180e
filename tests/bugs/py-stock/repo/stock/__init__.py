"""Quantities of articles and what is to be ordered."""
