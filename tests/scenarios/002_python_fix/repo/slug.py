def slugify(text):
    """The text in lower case, with hyphens for everything that is no letter and no digit."""
    return "".join(letter if letter.isalnum() else "-" for letter in text.lower())
