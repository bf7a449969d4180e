import re


def slugify(text):
    """The text in lower case, with hyphens for everything that is no letter and no digit."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
