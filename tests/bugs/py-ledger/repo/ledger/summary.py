"""Renders ledgers as text."""


def money(cents):
    """Return `cents` as `-12.05`."""
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def render(ledger):
    """Return one line an entry, and the balance as the last line."""
    lines = [f"{entry.text}: {money(entry.cents)}" for entry in ledger.entries]
    lines.append(f"balance of {ledger.owner}: {money(ledger.balance())}")
    return "\n".join(lines)
