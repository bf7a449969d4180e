"""The articles of a store."""


class UnknownArticle(KeyError):
    """There is no such article."""


class Store:
    """Articles by name, with their quantity and reorder level."""

    def __init__(self):
        self._articles = {}

    def add(self, name, quantity, reorder_level=0):
        """Add an article, or more of one that is there."""
        if quantity < 0 or reorder_level < 0:
            raise ValueError("quantities are not negative")
        article = self._articles.setdefault(name, {"quantity": 0, "reorder_level": reorder_level})
        article["quantity"] += quantity

    def take(self, name, quantity):
        """Take some away; there must be enough."""
        article = self.article(name)
        if article["quantity"] < quantity:
            raise ValueError(f"only {article['quantity']} of {name} left")
        article["quantity"] -= quantity

    def article(self, name):
        """Return the article's record."""
        if name not in self._articles:
            raise UnknownArticle(name)
        return self._articles[name]

    def __iter__(self):
        return iter(sorted(self._articles.items()))
