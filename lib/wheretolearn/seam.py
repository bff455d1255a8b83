"""The seam to what is fast: other ways to compute what the readable code computes.

The readable code asks for a way by name, and goes on without it where there is none.  Delete the
folder ``fast`` and every number is the same, up to rounding; it only takes longer.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from importlib import import_module
from typing import Any

_WAYS = {
    "norm_act": "kernels",  # normalisation, activation and pooling in one pass
    "gradient": "convnet",  # of ConvNet-4 on grey images, by hand
    "side_by_side": "vmap",  # many tasks at a time, for a GPU
    "meta_gradient": "mlp",  # La-MAML's, of a plain MLP
    "descend": "mlp_steps",  # on single samples, of a plain MLP
    "keep_memory": "allocator",  # freed memory stays with the process
}

_wanted = ContextVar("_wanted", default=True)


@functools.cache
def fast(way: str) -> Callable[..., Any] | None:
    """Return a fast way by name, if there is one; it is imported now."""
    module = f"{__package__}.fast.{_WAYS[way]}"
    try:
        return getattr(import_module(module), way)
    except ModuleNotFoundError as error:
        if error.name in (f"{__package__}.fast", module):
            return None
        raise


@contextlib.contextmanager
def reference_only() -> Iterator[None]:
    """Use torch's own operations, in plain memory layout: to compare, and under ``vmap``."""
    token = _wanted.set(False)
    try:
        yield
    finally:
        _wanted.reset(token)


def kernels_wanted() -> bool:
    """Return whether other than torch's own operations may be used, see :func:`reference_only`."""
    return _wanted.get()
