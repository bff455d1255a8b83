"""Continual learners by name, with the settings of the paper for each stream.

On the streams made of MNIST, C-MAML, Sync and La-MAML have the settings that Gupta et al. (2020)
released; online SGD, EWC, GEM and MER (its algorithm 1) those of the script released with MER
(Riemer et al., 2019), for memories of the same size, with strengths that mean the same here, see
:class:`~wheretolearn.continual.baselines.EWC`.  The script has settings of experience replay as
well, for single samples; those here are for batches, and where a search begins, as are those of
the sparse learners, which are not published.  ``la-maml-random`` is a control: its mask is drawn
and never learned.

All learners start from the same weights, those of Gupta et al.  In the script released with MER
weights are Xavier-uniform; for any learner the setting ``init="xavier"`` draws such.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import nn

from ..networks import MLP
from ..rules import make_rule
from ..suggestions import closest
from .base import Learner
from .baselines import EWC, GEM, MER, Online
from .la_maml import LaMAML
from .replay import ExperienceReplay
from .streams.stream import Stream

Settings = dict[str, Any]

MEMORY = {"rotations": 200, "permutations": 200, "many-permutations": 500, "glyph-rotations": 50}
"""Samples in memory, by stream; 200 where a stream is not named."""


class Method(NamedTuple):
    """A learner of :data:`LEARNERS`: what makes it, how it is drawn, with which settings."""

    make: Callable[..., Learner]
    """What makes it of its settings."""
    title: str
    """What to call it."""
    colour: int
    """Its place in the palette of the figures."""
    marker: str
    """Its sign in the figures, as Matplotlib names it."""
    settings: dict[str, Settings]
    """Settings by stream, without the memory; a stream without any has those of Rotations."""
    batch: int = 10
    """Samples that arrive together."""
    memory: bool = True
    """Whether it has a memory."""
    rates: bool = False
    """Whether it has a rate for every weight, whose sparsity can be drawn."""
    published: bool = True
    """Whether the settings on the streams made of MNIST are those of a publication."""


def _on(rotations: Settings, permutations: Settings, many: Settings) -> dict[str, Settings]:
    return {"rotations": rotations, "permutations": permutations, "many-permutations": many}


def _la_maml(method: str) -> Callable[..., Learner]:
    """Return what makes a La-MAML with a rule of :mod:`wheretolearn.rules`."""

    def make(*, inner_rate: float, init_sparsity: float = 0.0, **settings: Any) -> Learner:
        rule = make_rule(method, inner_rate=inner_rate, init_sparsity=init_sparsity)
        return LaMAML(rule=rule, **settings)

    return make


RANDOM: Settings = {"rule_rate": 0.0, "init_sparsity": 0.5}
"""What turns a learned mask into one that is drawn, half open, and stays."""

OPEN: Settings = {"rule_rate": 0.0, "init_sparsity": 0.0}
"""What leaves every gate of a mask open: C-MAML with the mask's own rate."""

_ONLINE = _on({"rate": 0.0003}, {"rate": 0.003}, {"rate": 0.003})
_REPLAY = {"rotations": {"rate": 0.1, "glances": 5}}
_FISHER = {"fisher": "mean", "fisher_samples": 10}
_EWC = _on(
    {"rate": 0.001, "strength": 200.0} | _FISHER,
    {"rate": 0.01, "strength": 20.0} | _FISHER,
    {"rate": 0.003, "strength": 2.0} | _FISHER,
)
_GEM = _on(
    {"rate": 0.01, "margin": 0.0}, {"rate": 0.01, "margin": 0.0}, {"rate": 0.003, "margin": 0.1}
)
_MER = _on(
    {"rate": 0.1, "beta": 0.01, "replay": 10, "trajectories": 5},
    {"rate": 0.03, "beta": 0.03, "replay": 10, "trajectories": 10},
    {"rate": 0.03, "beta": 0.03, "replay": 5, "trajectories": 10},
)
_C_MAML = _on(
    {"inner_rate": 0.1, "outer_rate": 0.1, "glances": 5},
    {"inner_rate": 0.03, "outer_rate": 0.1, "glances": 5},
    {"inner_rate": 0.03, "outer_rate": 0.15, "glances": 5},
)
_SYNC = _on(
    {"inner_rate": 0.15, "rule_rate": 0.1, "outer_rate": 0.3, "glances": 5},
    {"inner_rate": 0.15, "rule_rate": 0.1, "outer_rate": 0.1, "glances": 5},
    {"inner_rate": 0.03, "rule_rate": 0.1, "outer_rate": 0.03, "glances": 10},
)
_LA_MAML = _on(  # also where a search for the learners that are not published begins
    {"inner_rate": 0.15, "rule_rate": 0.3, "glances": 5},
    {"inner_rate": 0.15, "rule_rate": 0.3, "glances": 5},
    {"inner_rate": 0.1, "rule_rate": 0.1, "glances": 10},
)
_PLAIN = {s: v | {"outer_rate": v["inner_rate"]} for s, v in _LA_MAML.items()}
_RANDOM = {s: v | RANDOM for s, v in _LA_MAML.items()}
_OPEN = {s: v | OPEN for s, v in _LA_MAML.items()}

_RATES = {"rates": True}
_NEW = {"rates": True, "published": False}
_SINGLE: dict[str, Any] = {"batch": 1, "memory": False}
_MASKED = _la_maml("sparse-maml")

LEARNERS: dict[str, Method] = {
    "online": Method(Online, "online SGD", 7, ".", _ONLINE, **_SINGLE),
    "replay": Method(ExperienceReplay, "replay", 3, "D", _REPLAY, published=False),
    "ewc": Method(EWC, "EWC", 5, "X", _EWC, **_SINGLE),
    "gem": Method(GEM, "GEM", 5, "P", _GEM, batch=1),
    "mer": Method(MER, "MER", 6, "h", _MER),
    "c-maml": Method(_la_maml("maml"), "C-MAML (La-MAML's)", 8, "<", _C_MAML, **_RATES),
    "sync": Method(_la_maml("relu-maml"), "Sync", 9, ">", _SYNC, **_RATES),
    "la-maml": Method(_la_maml("relu-maml"), "La-MAML", 2, "^", _LA_MAML, **_RATES),
    "la-maml-straight": Method(
        _la_maml("sparse-relu-maml"), "La-MAML, straight-through", 1, "s", _LA_MAML, **_NEW
    ),
    "sparse-la-maml": Method(_MASKED, "sparse-La-MAML, masked step", 0, "o", _LA_MAML, **_NEW),
    "sparse-la-maml-plain": Method(_MASKED, "sparse-La-MAML, plain step", 4, "d", _PLAIN, **_NEW),
    "la-maml-random": Method(_MASKED, "random mask, never learned", 7, "x", _RANDOM, **_NEW),
    "la-maml-open": Method(_MASKED, "every gate open, never learned", 8, "+", _OPEN, **_NEW),
}
"""All learners; a learner of one's own is one more line.  The learning rates of online SGD, EWC and
GEM are for single samples, as in the script that they come from."""

BATCH = {name: method.batch for name, method in LEARNERS.items()}
"""Samples that arrive together, by learner."""

INITS: dict[str, Callable[..., Any]] = {
    "kaiming": nn.init.kaiming_normal_,
    "xavier": nn.init.xavier_uniform_,
}
"""How a network's weights are drawn, by the setting ``init`` of a learner."""


def settings(learner: str, stream: str) -> Settings:
    """Return the settings of a learner on a stream, those of Rotations where it has no others."""
    if learner not in LEARNERS:
        raise ValueError(f"unknown learner {learner!r}{closest(learner, LEARNERS)}")
    method = LEARNERS[learner]
    chosen = dict(method.settings.get(stream, method.settings["rotations"]))
    return chosen | {"memory": MEMORY.get(stream, 200)} if method.memory else chosen


def make_learner(name: str, stream: Stream, seed: int, changes: Settings, width: int) -> Learner:
    """Make a learner for a stream, with a new network.

    Parameters
    ----------
    name, stream
        A key of :data:`LEARNERS`, and what it is to learn.
    seed : int
        Seed of the network and of all else that is random in the learner.
    changes : dict
        Settings that differ from :func:`settings`.
    width : int
        Units of each hidden layer.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = settings(name, stream.name) | changes
    if name == "gem":
        chosen["tasks"] = len(stream)
    network = make_network(stream, width, generator, chosen.pop("init", "kaiming"))
    try:
        return LEARNERS[name].make(network=network, generator=generator, ways=stream.ways, **chosen)
    except TypeError as error:  # a setting that the learner does not have
        raise ValueError(f"{name}: {error}") from None


def make_network(
    stream: Stream, width: int, generator: torch.Generator, init: str = "kaiming"
) -> nn.Module:
    """Return the network of Gupta et al. (2020): Kaiming-normal weights, no biases at first.

    Flat inputs get an MLP with two hidden layers of `width` units, images of 32 x 32 three
    convolutions of 160 channels, stride 2, and two hidden layers of 320 units.  With
    ``init="xavier"`` weights are drawn as in the script released with MER.
    """
    if init not in INITS:
        raise ValueError(f"init must be one of {', '.join(INITS)}, got {init!r}")
    if len(stream.shape) == 1:
        network: nn.Module = MLP(stream.shape[0], width, width, stream.classes)
    else:
        sizes = [stream.shape[0], 160, 160, 160]
        layers: list[nn.Module] = []
        for into, out in pairwise(sizes):
            layers += [nn.Conv2d(into, out, 3, stride=2, padding=1), nn.ReLU()]
        layers += [nn.Flatten(), nn.LazyLinear(320), nn.ReLU(), nn.Linear(320, 320), nn.ReLU()]
        network = nn.Sequential(*layers, nn.Linear(320, stream.classes))
        network(torch.zeros(1, *stream.shape))  # the first linear layer learns its size
    for p in network.parameters():
        if p.ndim > 1:
            INITS[init](p, generator=generator)
        else:
            nn.init.zeros_(p)
    return network
