"""Addresses as they may be shown and written down: without who logs in, and with which password."""

from __future__ import annotations

import re

# What stands between the kind and the host of a URL; a password may itself hold `@` and `/`.
_LOGIN = re.compile(r"//\S*@")


def masked(text: str) -> str:
    """Return a text with `***` in the place of every URL's login.

    >>> masked("resume run -o storage=postgresql://me:p@ss/word@host/db")
    'resume run -o storage=postgresql://***@host/db'
    """
    return _LOGIN.sub("//***@", text)


def has_login(text: str) -> bool:
    """Return whether a text holds a URL with a login."""
    return _LOGIN.search(text) is not None
