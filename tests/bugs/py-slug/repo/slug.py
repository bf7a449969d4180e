"""Titles become the last part of a web address."""

import re
import unicodedata

_OTHER = re.compile(r"[^a-z0-9]+")


def plain(text):
    """Return `text` in lower case with accents taken off: `É` becomes `e`."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter)).lower()


def slugify(title, longest=60):
    """Return the slug of a title: letters and digits, single dashes between words.

    It has at most `longest` characters. A title without any letter or digit gives `untitled`.
    """
    slug = _OTHER.sub("-", plain(title))
    slug = slug[:longest]
    return slug or "untitled"


def unique(title, taken):
    """Return a slug that is not in `taken`, by adding `-2`, `-3`, ... if need be."""
    slug = slugify(title)
    if slug not in taken:
        return slug
    number = 2
    while f"{slug}-{number}" in taken:
        number += 1
    return f"{slug}-{number}"
