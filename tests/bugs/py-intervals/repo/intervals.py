"""Half-open intervals of whole numbers, as pairs `(start, end)` with `start < end`."""


def check(intervals):
    """Raise `ValueError` for an interval that is empty or runs backwards."""
    for start, end in intervals:
        if start >= end:
            raise ValueError(f"not an interval: {start}..{end}")


def merge(intervals):
    """Return the same times without overlaps, sorted; intervals that touch become one."""
    check(intervals)
    merged = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            last_start, last_end = merged[-1]
            merged[-1] = (last_start, end)
        else:
            merged.append((start, end))
    return merged


def total(intervals):
    """Return how much time the intervals cover together."""
    return sum(end - start for start, end in merge(intervals))


def gaps(intervals, begin, end):
    """Return the free intervals between `begin` and `end`."""
    free = []
    at = begin
    for start, stop in merge(intervals):
        if start >= end:
            break
        if start > at:
            free.append((at, start))
        at = max(at, stop)
    if at < end:
        free.append((at, end))
    return free
