"""Masked meta-learning: where to learn, and how far.

A small library behind the reproduction of "Learning where to learn: Gradient
sparsity in meta and continual learning" (von Oswald et al., NeurIPS 2021).

rules        where and how far each weight moves: the methods, as data
inner_loop   adaptation, and its meta-gradient in closed form
meta         a meta-learner around any ``torch.nn.Module``
networks     ConvNet-4, ResNet-12, MLP
data, tasks  labelled images, few-shot episodes
continual    La-MAML, C-MAML and their relatives, on streams
fast         other ways to compute the same, taken where they apply
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data import load, load_folder
    from .inner_loop import adapt, first_order, second_order
    from .meta import MetaLearner
    from .networks import MLP, ConvNet4, ResNet12
    from .rules import METHODS, Rule, make_rule
    from .tasks import EpisodeSampler
    from .types import Batch, Task

__all__ = [
    "METHODS",
    "MLP",
    "Batch",
    "ConvNet4",
    "EpisodeSampler",
    "MetaLearner",
    "ResNet12",
    "Rule",
    "Task",
    "adapt",
    "first_order",
    "load",
    "load_folder",
    "make_rule",
    "second_order",
]

_HOMES = {
    "data": ("load", "load_folder"),
    "inner_loop": ("adapt", "first_order", "second_order"),
    "meta": ("MetaLearner",),
    "networks": ("MLP", "ConvNet4", "ResNet12"),
    "rules": ("METHODS", "Rule", "make_rule"),
    "tasks": ("EpisodeSampler",),
    "types": ("Batch", "Task"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torch is not needed to list experiments."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f".{home}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
