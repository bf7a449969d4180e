"""Cuts a text into numbers and signs."""

import re

_TOKEN = re.compile(r"\s*(?:([0-9]+(?:\.[0-9]+)?)|([-+*/^()]))")


def tokens(text):
    """Return the numbers (as floats) and signs of a text."""
    found = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"cannot read {text[at:]!r}")
        number, sign = match.groups()
        found.append(float(number) if number else sign)
        at = match.end()
    return found
