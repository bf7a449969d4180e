"""Works out a tree."""

from .lexer import tokens
from .parser import Parser


def evaluate(tree):
    """Return the value of a tree."""
    if isinstance(tree, float):
        return tree
    sign, left, right = tree
    left, right = evaluate(left), evaluate(right)
    if sign == "+":
        return left + right
    if sign == "-":
        return left - right
    if sign == "*":
        return left * right
    if sign == "/":
        return left / right
    return left**right


def calculate(text):
    """Return the value of an expression."""
    return evaluate(Parser(tokens(text)).parse())
