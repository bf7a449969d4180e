"""Byte counts for people: format them, and read them back."""

import re

UNITS = ["B", "KiB", "MiB", "GiB", "TiB"]
_PATTERN = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*$")


def format_size(count):
    """Return `count` bytes with the largest unit that leaves a number of at least one.

    Bytes are shown whole, larger units with one digit after the point.
    """
    if count < 0:
        raise ValueError("a size is not negative")
    value = float(count)
    index = 0
    while value > 1024 and index < len(UNITS) - 1:
        value /= 1024
        index += 1
    if index == 0:
        return f"{count} B"
    return f"{value:.1f} {UNITS[index]}"


def parse_size(text):
    """Return the number of bytes that `text` names, such as `12`, `12 B` or `1.5 KiB`."""
    match = _PATTERN.match(text)
    if match is None:
        raise ValueError(f"not a size: {text!r}")
    number, unit = match.groups()
    unit = unit or "B"
    for index, known in enumerate(UNITS):
        if unit.lower() == known.lower():
            return int(float(number) * 1024**index)
    raise ValueError(f"unknown unit: {unit!r}")
