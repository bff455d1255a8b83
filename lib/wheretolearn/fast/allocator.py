"""Keep freed memory instead of giving it back to the system after every tensor.

By default the C library of Linux maps each large tensor anew and unmaps it when it
is freed; the system then clears every page of it again, which at 84 x 84 pixels
takes as long as the arithmetic.  A training loop asks for the same sizes over and
over, so it is better served by memory that stays.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # malloc.h of the GNU C library
_NEVER = -1


def keep_memory() -> bool:
    """Keep freed memory for the rest of this process, where the C library can (glibc).

    The process then holds on to the most that it ever needed at a time.  Results do
    not depend on it.

    Returns
    -------
    bool
        Whether it was possible; without, everything works, only slower.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    # no tensor has a mapping of its own; the heap never shrinks; all threads share it
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_ARENA_MAX, 1))
    done = [mallopt(name, value) == 1 for name, value in settings]
    return all(done)
