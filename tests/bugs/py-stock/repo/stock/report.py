"""What is to be ordered again."""


def to_order(store):
    """Return pairs of name and amount for all articles that have reached their reorder level.

    The amount brings the article back to twice the level. Articles with level 0 are not kept in stock.
    """
    wanted = []
    for name, article in store:
        level = article["reorder_level"]
        if level > 0 and article["quantity"] < level:
            wanted.append((name, 2 * level - article["quantity"]))
    return wanted


def render(store):
    """Return the report as text, one line an article."""
    lines = [f"{name}: order {amount}" for name, amount in to_order(store)]
    return "\n".join(lines) if lines else "nothing to order"
