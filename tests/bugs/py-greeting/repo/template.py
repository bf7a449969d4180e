"""Texts with places to fill: `{name}` or `{name|filter}`."""

import re

_PLACE = re.compile(r"\{([a-z_]+)((?:\|[^|{}]+)*)\}")

FILTERS = {
    "upper": str.upper,
    "lower": str.lower,
    "title": str.title,
}


class UnknownFilter(ValueError):
    """A place names a filter that does not exist."""


def apply_filters(value, names):
    """Return `value` after all filters, from left to right."""
    for name in names:
        if name not in FILTERS:
            raise UnknownFilter(name)
        value = FILTERS[name](value)
    return value


def render(text, values):
    """Return `text` with all places filled; a name that has no value raises `KeyError`."""

    def fill(match):
        name, rest = match.groups()
        filters = [part for part in rest.split("|") if part]
        return apply_filters(str(values[name]), filters)

    return _PLACE.sub(fill, text)
