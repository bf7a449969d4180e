"""Makes texts fit into a limit."""

ELLIPSIS = "..."


def fit_characters(text, limit):
    """Return `text` with at most `limit` characters; what was cut ends in an ellipsis.

    It is cut at a space if there is one in the second half.
    """
    if len(text) <= limit:
        return text
    room = limit - len(ELLIPSIS)
    if room <= 0:
        return text[:limit]
    cut = text[:room]
    space = cut.rfind(" ")
    if space >= room // 2:
        cut = cut[:space]
    return cut.rstrip() + ELLIPSIS


def fit_bytes(text, limit):
    """Return the longest beginning of `text` that has at most `limit` bytes in UTF-8."""
    encoded = text.encode("utf-8")
    if len(encoded) <= limit:
        return text
    return encoded[:limit].decode("utf-8", errors="replace")


def fit_lines(text, lines):
    """Return the first `lines` lines, and how many there were beyond."""
    all_lines = text.splitlines()
    return "\n".join(all_lines[:lines]), max(0, len(all_lines) - lines)
