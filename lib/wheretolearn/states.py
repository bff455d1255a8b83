"""States of learners: what does not fit is refused whole, and a look changes nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


def check_like(own: Any, found: Any, where: str = "the state") -> None:
    """Refuse a state with other names, shapes or kinds of numbers than a learner's own.

    Parameters
    ----------
    own : Any
        The learner's own state.  Mappings and tensors in it are compared, also within mappings;
        anything else may be of another form.
    found : Any
        The state to be loaded.
    where : str
        What `found` is called in a message.

    Raises
    ------
    ValueError
        If something differs; it is named.
    """
    if isinstance(own, Mapping):
        names = set(found) if isinstance(found, Mapping) else set()
        if differing := sorted(own.keys() ^ names, key=str):
            raise ValueError(f"{where} belongs to another network or learner: see {differing}")
        for name, value in own.items():
            check_like(value, found[name], f"{where}, {name!r}")
    elif isinstance(own, Tensor) and (form := _form(found)) != _form(own):
        raise ValueError(f"{where}: {_form(own)} is wanted, found {form}")


def _form(value: Any) -> str:
    """Return shape and kind of a tensor; numbers of one kind may have any precision."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    kind = "complex" if value.is_complex() else "float" if value.is_floating_point() else "integer"
    return f"{kind} {list(value.shape)}"


def whole(load: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """Let a method ``load_state_dict`` load all of a state or, where it fails, nothing."""

    @functools.wraps(load)
    def all_or_nothing(self: Any, state: Any) -> None:
        before = self.state_dict()
        try:
            load(self, state)
        except Exception:
            load(self, before)
            raise

    return all_or_nothing


@contextmanager
def kept_buffers(module: nn.Module) -> Iterator[None]:
    """Let a module use copies of its buffers, so that what it notes there is forgotten."""
    own = [(m._buffers, dict(m._buffers)) for m in module.modules()]
    copies = {b: b.clone() for _, held in own for b in held.values() if b is not None}
    try:
        for place, held in own:
            place.update({n: None if b is None else copies[b] for n, b in held.items()})
        yield
    finally:
        for place, held in own:
            place.clear()
            place.update(held)
