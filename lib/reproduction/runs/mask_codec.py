"""Learned masks as they stand in a record: packed, read again, and rearranged."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from wheretolearn.rules import moved
from wheretolearn.suggestions import closest
from wheretolearn.types import Rates

Masks = dict[str, np.ndarray]
"""For each parameter tensor, which weights move: arrays of bool of its shape."""

ARRANGEMENTS = ("own", "shuffled", "random", "all")
"""What :func:`rearrange` knows."""


def check_arrangement(how: str) -> None:
    """Raise :class:`ValueError` for an unknown arrangement; the nearest is suggested."""
    if how not in ARRANGEMENTS:
        raise ValueError(f"unknown arrangement {how!r}{closest(how, ARRANGEMENTS)}")


def of_rates(rates: Rates, params: Mapping[str, Tensor]) -> Masks:
    """Return which weights have a rate other than zero."""
    return {n: moved(rates, n, p).cpu().numpy() for n, p in params.items()}


def pack(masks: Masks) -> dict[str, str]:
    """Return masks as text: eight weights a byte, in C order, base64."""
    return {
        n: base64.b64encode(np.packbits(m.ravel()).tobytes()).decode() for n, m in masks.items()
    }


def unpack(packed: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> Masks:
    """Return the masks behind the text."""
    masks = {}
    for name, shape in shapes.items():
        raw = base64.b64decode(packed.get(name, ""), validate=True)
        size = int(np.prod(shape))
        if len(raw) != -(-size // 8):
            raise ValueError(f"the mask of {name} is missing or has another size than {shape}")
        bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=size)
        masks[name] = bits.astype(bool).reshape(shape)
    return masks


def rearrange(masks: Masks, how: str, generator: np.random.Generator) -> Masks:
    """Return masks that share some of what others have."""
    check_arrangement(how)
    if how == "own":
        return {n: m.copy() for n, m in masks.items()}
    if how == "all":
        return {n: np.ones_like(m) for n, m in masks.items()}
    if how == "shuffled":
        return {n: generator.permutation(m.ravel()).reshape(m.shape) for n, m in masks.items()}
    bits = generator.permutation(np.concatenate([m.ravel() for m in masks.values()]))
    ends = np.cumsum([m.size for m in masks.values()])
    parts = np.split(bits, ends[:-1])
    return {n: part.reshape(m.shape) for (n, m), part in zip(masks.items(), parts, strict=True)}
