"""Puts overrides over defaults."""

import copy

from .defaults import DEFAULTS


def merged(base, override):
    """Return `base` with `override` put over it, section by section; lists are replaced as a whole."""
    result = copy.copy(base)
    for key, value in override.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            section = result[key]
            section.update(merged(section, value))
        else:
            result[key] = value
    return result


def load(tenant):
    """Return the settings of a tenant."""
    return merged(DEFAULTS, tenant)
