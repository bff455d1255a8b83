"""The precision in which convolutions and matrix products are computed.

==========  ==================================================================
name        meaning
==========  ==================================================================
float32     24 bits of mantissa everywhere (or float64, if the network is)
tf32        on a GPU, products round their factors to 11 bits; no effect on a CPU
bf16        factors and results of products are rounded to 8 bits (``torch.autocast``);
            normalisation, losses, sums over steps and the optimizer stay in float32
==========  ==================================================================
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch

from .suggestions import closest

Precision = Literal["float32", "tf32", "bf16"]


def check_precision(name: str) -> None:
    """Raise :class:`ValueError` for an unknown precision; the nearest one is suggested."""
    known = get_args(Precision)
    if name not in known:
        raise ValueError(f"unknown precision {name!r}{closest(name, known)}")


@contextlib.contextmanager
def computing_in(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute in a precision on a device, and leave torch's settings as they were.

    Parameters
    ----------
    precision : {"float32", "tf32", "bf16"}
        See the table above.
    device : torch.device
        Where the network is.
    """
    with contextlib.ExitStack() as stack:
        if device.type == "cuda":
            backend: Any
            for backend in (torch.backends.cuda.matmul, torch.backends.cudnn):
                stack.callback(setattr, backend, "allow_tf32", backend.allow_tf32)
                backend.allow_tf32 = precision == "tf32"
        if precision == "bf16":
            # a cache of rounded weights would keep those of every inner step
            stack.enter_context(torch.autocast(device.type, torch.bfloat16, cache_enabled=False))
        yield
