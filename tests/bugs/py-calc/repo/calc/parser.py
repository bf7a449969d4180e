"""Makes a tree of tokens: a number, or a tuple of sign, left and right.

    sum     = product { ("+" | "-") product }
    product = power { ("*" | "/") power }
    power   = atom [ "^" power ]
    atom    = number | "(" sum ")" | "-" atom
"""


class Parser:
    """Reads one expression."""

    def __init__(self, tokens):
        self.tokens = tokens
        self.at = 0

    def peek(self):
        """Return the next token, or `None` at the end."""
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self):
        """Return the next token and go on."""
        token = self.peek()
        if token is None:
            raise ValueError("the expression ends too early")
        self.at += 1
        return token

    def parse(self):
        """Return the tree of the whole text."""
        tree = self.sum()
        if self.peek() is not None:
            raise ValueError(f"unexpected {self.peek()!r}")
        return tree

    def sum(self):
        left = self.product()
        if self.peek() in ("+", "-"):
            return (self.take(), left, self.sum())
        return left

    def product(self):
        left = self.power()
        if self.peek() in ("*", "/"):
            return (self.take(), left, self.product())
        return left

    def power(self):
        left = self.atom()
        if self.peek() == "^":
            return (self.take(), left, self.power())
        return left

    def atom(self):
        token = self.take()
        if token == "(":
            inner = self.sum()
            if self.take() != ")":
                raise ValueError("a parenthesis is not closed")
            return inner
        if token == "-":
            return ("-", 0.0, self.atom())
        if isinstance(token, float):
            return token
        raise ValueError(f"unexpected {token!r}")
