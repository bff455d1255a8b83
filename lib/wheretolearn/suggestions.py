"""The nearest known name, for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message: the nearest known name, or the whole list.

    Parameters
    ----------
    name : str
        What was asked for.
    known : iterable of str
        What there is.

    Returns
    -------
    str
        ``"; did you mean 'maml'?"`` or ``"; known are 'a', 'b'"``.
    """
    known = list(known)
    lowered = {k.lower(): k for k in known}
    match = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    if match:
        return f"; did you mean {lowered[match[0]]!r}?"
    return "; known are " + ", ".join(repr(k) for k in known)
