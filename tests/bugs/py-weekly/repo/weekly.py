"""Jobs that run once a week, at a full hour."""

from datetime import datetime, timedelta

DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def parse(text):
    """Return weekday (Monday is 0) and hour of a text such as `fri 18`."""
    name, _, hour = text.strip().partition(" ")
    if name.lower() not in DAYS:
        raise ValueError(f"not a weekday: {name!r}")
    number = int(hour)
    if not 0 <= number <= 23:
        raise ValueError(f"not an hour: {hour!r}")
    return DAYS.index(name.lower()), number


def next_run(text, now):
    """Return the first moment after `now` at which a job that is planned as `text` runs."""
    weekday, hour = parse(text)
    days = (weekday - now.weekday()) % 7
    run = datetime(now.year, now.month, now.day, hour) + timedelta(days=days)
    return run


def upcoming(plans, now):
    """Return the plans with their next moments, the soonest first."""
    return sorted(((next_run(plan, now), plan) for plan in plans), key=lambda pair: pair[0])
