"""Addresses as they may be shown: without user, password, query and fragment.

People paste URLs with keys in them where a path belongs; error lines end up in logs.
"""

from __future__ import annotations

import re

HIDDEN = "***"
# One slash is enough: that is what a path makes of two.
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:/{1,2})[^\s/]*@")
_QUERY = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:/{1,2}[^\s?#'\"]*[?#])[^\s'\"]+")


def without_secrets(text: str) -> str:
    """The text with `***` for what may be secret in the URLs that it holds."""
    if ":/" not in text:
        return text
    return _QUERY.sub(rf"\1{HIDDEN}", _USER.sub(rf"\1{HIDDEN}@", text))


__all__ = ["HIDDEN", "without_secrets"]
