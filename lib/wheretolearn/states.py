"""States of learners: what does not fit is refused whole, and a look changes nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from .rules import Rule
from .types import Params


def check_like(own: Any, found: Any, where: str = "the state") -> None:
    """Refuse a state with other names, shapes or kinds of numbers than a learner's own.

    Parameters
    ----------
    own : Any
        The learner's own state.  In it and mappings in it, tensors have to have the same form and
        anything else the same type; where there is None, anything may be.
    found : Any
        The state to be loaded.
    where : str
        What `found` is called in a message.

    Raises
    ------
    ValueError
        If something differs; it is named.
    """
    if isinstance(own, Mapping) and isinstance(found, Mapping):
        if differing := sorted(own.keys() ^ found.keys(), key=str):
            raise ValueError(f"{where} belongs to another network or learner: see {differing}")
        for name, value in own.items():
            check_like(value, found[name], f"{where}, {name!r}")
    elif own is not None and (form := _form(found)) != _form(own):
        raise ValueError(f"{where}: {_form(own)} is wanted, found {form}")


def _form(value: Any) -> str:
    """Return shape and kind of a tensor; numbers of one kind may have any precision."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    kind = "complex" if value.is_complex() else "float" if value.is_floating_point() else "integer"
    return f"{kind} {list(value.shape)}"


def settings_of(learner: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return what a state is the state of: of some attributes the rule and the plain values."""
    found: dict[str, Any] = {}
    for name in names:
        value = getattr(learner, name)
        if isinstance(value, Rule):
            found |= {name: type(value).__name__, **asdict(value)}
        elif value is None or isinstance(value, bool | int | float | str):
            found[name] = value
    return found


def kind_of(learner: Any, changing: Collection[str]) -> dict[str, Any]:
    """Return what a state is the state of: the class, and all that learning does not change."""
    names = [n for n in vars(learner) if n not in changing]
    return {"kind": type(learner).__name__, **settings_of(learner, names)}


def check_settings(own: Mapping[str, Any], found: Any) -> None:
    """Refuse the settings of another learner; what a rule lacks has its default."""
    if not isinstance(found, Mapping):
        raise ValueError(f"the state belongs to another learner: its settings are {found!r}")
    there = {n: v for n, v in asdict(Rule()).items() if n in own} | {**found}
    if differing := [n for n in {**own, **there} if own.get(n) != there.get(n)]:
        told = (f"{n} is {there.get(n)!r} there and {own.get(n)!r} here" for n in differing)
        raise ValueError(f"the state belongs to another learner: {', '.join(told)}")


def check_optimizer(optimizer: torch.optim.Optimizer, state: Any, tensors: Params) -> None:
    """Refuse the state of an optimizer of another kind, or of other tensors than these."""
    own = optimizer.state_dict()
    check_like(dict.fromkeys(own), state, "the state of the optimizer")
    kinds = [
        [(g["params"], sorted(g)) for g in groups or ()]
        for groups in (own["param_groups"], state["param_groups"])
    ]
    if kinds[0] != kinds[1] or not state["state"].keys() <= set(range(len(tensors))):
        raise ValueError("the state of the optimizer belongs to another optimizer or network")
    adam = isinstance(optimizer, torch.optim.Adam)
    slots = ("step", "exp_avg", "exp_avg_sq") if adam else ("momentum_buffer",)
    for i, (name, p) in enumerate(tensors.items()):
        if i in state["state"]:
            like = {n: p.new_zeros(()) if n == "step" else p for n in slots}
            check_like(like, state["state"][i], f"the state of the optimizer for {name}")


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
