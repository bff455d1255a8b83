"""Learners of OSAKA's stream by name, with the settings of those who published them.

=========================  ====================================================================
learner                    what it does
=========================  ====================================================================
``online-adam``            Adam on every batch, from scratch
``online-sgd``             gradient descent on every batch, from scratch
``fine-tuning``            the same as ``online-adam``, from a pretrained body
``maml``                   pretrained; adapts to the last batch, learns nothing more
``anil``                   ``maml`` with the last layer alone adapted
``sparse-maml``            ``maml`` with a learned rate for each tensor, which can be zero
``c-maml``                 goes on meta-learning in the stream; detects shifts
``c-maml-always``          ``c-maml`` that learns from every loss and looks for no shift
``c-maml-pre``             the same, pretrained
``c-maml-um``              ``c-maml`` with update modulation
``c-maml-um-pap``          and a prolonged adaptation phase
``c-maml-pre-um``          ``c-maml-um``, pretrained
``c-maml-pre-um-pap``      ``c-maml-um-pap``, pretrained
``c-maml-pap``             ``sparse-c-maml`` with rates that may be negative, never cut off
``c-maml-zero``            ``c-maml`` that learns from every loss: its threshold is 0
``sparse-c-maml``          ``c-maml`` with a learned rate for each tensor, which can be zero
``sparse-c-maml-gates``    ``sparse-c-maml`` with a learned gate for each tensor, open or shut
``sparse-c-maml-weights``  ``sparse-c-maml`` with a learned gate for each weight
=========================  ====================================================================

Settings of ``maml``, ``sparse-maml``, ``c-maml`` and ``sparse-c-maml`` with 5 classes are those of
the runs that the authors of the sparse learners selected, which differ in more than their rates:
``c-maml-pap`` is there to see what the rates alone do.  All others are those that OSAKA
published for 10 classes (Caccia et al., 2020), but for pretraining of ``fine-tuning``: what it
is pretrained on, 100 images for an update, is a choice made here.  A learner has its settings for
other numbers of classes too where there are none of its own.  All meta-gradients are to first
order; some of OSAKA's runs had second-order ones.

The selected runs of ``sparse-c-maml`` name thresholds of 0.5 and 1, which have no effect in that
branch (:class:`~.c_maml.ProlongedCMAML`).  So there is no threshold here; ``{"threshold": 0.5}``
among a run's settings gives it one.  Settings of the gates for single
weights and of ``online-sgd`` are not published; those here are where a search begins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from ...meta import MetaLearner
from ...networks import ConvNet4
from ...rules import Rule
from ...suggestions import closest
from .c_maml import CMAML, ProlongedCMAML
from .fast_slow import Adapter, FastSlowLearner, Online
from .rules import TensorRule

Settings = dict[str, Any]


class Method(NamedTuple):
    """A learner of :data:`LEARNERS`: what makes it, how it is drawn, with which settings."""

    make: Callable[..., FastSlowLearner]
    """The learner in the stream."""
    colour: int
    """Its place in the palette of the figures, where its title is its name; 7 is grey."""
    line: str
    """How its curve is drawn, as Matplotlib names it."""
    five_ways: dict[float, Settings]
    """Settings for 5 classes by the probability that the context stays; empty if there are
    none, and then those for 10 classes count."""
    ten_ways: dict[float, Settings]
    """The same for 10 classes."""
    pretraining: str | None = None
    """``meta``, ``supervised`` or None."""
    gate: str = "fixed"
    """Of the rule, see :class:`wheretolearn.rules.Rule`."""
    each: str = "tensor"
    """What has a learned number: each ``tensor`` or each ``weight``."""
    scope: str = "all"
    """Which layers adapt, see :class:`wheretolearn.rules.Rule`."""


def _at(ninety: Settings, ninety_eight: Settings) -> dict[float, Settings]:
    return {0.90: ninety, 0.98: ninety_eight}


def _inner(meta_rate: float, inner_rate: float, inner_steps: int, **others: Any) -> Settings:
    return {"meta_rate": meta_rate, "inner_rate": inner_rate, "inner_steps": inner_steps} | others


def _pre(size: int, patience: int) -> Settings:
    """Return episodes, or images, of an update of pretraining, and its patience."""
    return {"meta_batch": size, "patience": patience}


_ADAM = _at({"rate": 0.001}, {"rate": 0.005})
_SGD = {0.90: {"rate": 0.05, "optimizer": "sgd"}}
_TUNED = _at(
    {"rate": 0.001, "meta_rate": 0.001} | _pre(100, 20),
    {"rate": 0.001, "meta_rate": 0.001} | _pre(100, 5),
)
_MAML_5 = _at(
    _inner(0.001, 0.001, 8) | _pre(1, 10),
    _inner(0.0001, 0.0005, 16) | _pre(16, 5),
)
_MAML_10 = _at(
    _inner(0.0001, 0.1, 16, gate="fixed") | _pre(4, 5),
    _inner(0.001, 0.1, 16, gate="fixed") | _pre(8, 10),
)
_ANIL = _at(_inner(0.005, 0.05, 16) | _pre(4, 20), _inner(0.005, 0.5, 16) | _pre(1, 10))
_SPARSE_MAML = _at(_inner(0.0005, 0.1, 16) | _pre(4, 5), _inner(0.001, 0.05, 16) | _pre(8, 10))
_C_MAML = _at(
    _inner(0.001, 0.5, 4, margin=1.0, threshold=0.0),
    _inner(0.01, 0.001, 4, margin=0.5, threshold=3.0),
)
_ZERO = {a: s | {"threshold": 0.0} for a, s in _C_MAML.items()}
_ALWAYS = _at(_inner(0.0005, 0.001, 2), _inner(0.0001, 0.1, 1))
_PRE = _at(_inner(0.001, 0.01, 16) | _pre(4, 10), _inner(0.0001, 0.005, 4) | _pre(2, 5))
_UM = _at(
    _inner(0.0005, 0.1, 2, margin=2.0, modulation=2.0),
    _inner(0.0005, 0.05, 4, margin=1.25, modulation=1000.0),
)
_UM_PAP = _at(
    _inner(0.001, 0.0005, 16, margin=1.5, modulation=1.0),
    _inner(0.005, 0.01, 16, margin=3.0, modulation=1000.0),
)
_PRE_UM = _at(
    _inner(0.0005, 0.5, 2, margin=1.0, modulation=5.0) | _pre(2, 5),
    _inner(0.001, 0.0005, 2, margin=2.0, modulation=0.5) | _pre(8, 20),
)
_PRE_UM_PAP = _at(
    _inner(0.0005, 0.1, 16, margin=2.0, modulation=0.25) | _pre(8, 10),
    _inner(0.0001, 0.1, 8, margin=2.5, modulation=0.25) | _pre(4, 10),
)
_SPARSE = _at(_inner(0.001, 0.1, 8, margin=1.5), _inner(0.0005, 0.005, 16, margin=2.0))
_WEIGHTS = {a: s | {"rule_rate": 0.0075, "init_sparsity": 0.5} for a, s in _SPARSE.items()}
_ONE = {"gate": "mask", "each": "weight"}

LEARNERS: dict[str, Method] = {  # make, colour, line, settings for 5 and 10 classes
    "online-adam": Method(Online, 7, ":", {}, _ADAM),
    "online-sgd": Method(Online, 1, ":", {}, _SGD),
    "fine-tuning": Method(Online, 7, "-.", {}, _TUNED, "supervised"),
    "maml": Method(Adapter, 2, "--", _MAML_5, _MAML_10, "meta", "linear"),
    "anil": Method(Adapter, 7, "--", {}, _ANIL, "meta", scope="head"),
    "sparse-maml": Method(Adapter, 0, "-", _SPARSE_MAML, {}, "meta", "relu"),
    "c-maml": Method(CMAML, 2, "--", _C_MAML, {}, gate="linear"),
    "c-maml-zero": Method(CMAML, 8, "-.", _ZERO, {}, gate="linear"),
    "c-maml-always": Method(CMAML, 6, "--", {}, _ALWAYS, gate="linear"),
    "c-maml-pre": Method(CMAML, 7, ":", {}, _PRE, "meta", "linear"),
    "c-maml-um": Method(CMAML, 4, "--", {}, _UM, gate="linear"),
    "c-maml-um-pap": Method(ProlongedCMAML, 8, "--", {}, _UM_PAP, gate="linear"),
    "c-maml-pre-um": Method(CMAML, 9, "--", {}, _PRE_UM, "meta", "linear"),
    "c-maml-pre-um-pap": Method(ProlongedCMAML, 6, "-.", {}, _PRE_UM_PAP, "meta", "linear"),
    "c-maml-pap": Method(ProlongedCMAML, 3, "--", _SPARSE, {}, gate="linear"),
    "sparse-c-maml": Method(ProlongedCMAML, 0, "-", _SPARSE, {}, gate="relu"),
    "sparse-c-maml-gates": Method(ProlongedCMAML, 7, "-.", _SPARSE, {}, gate="mask"),
    "sparse-c-maml-weights": Method(ProlongedCMAML, 7, "--", _WEIGHTS, {}, **_ONE),
}
"""All learners; a learner of one's own is one more line."""

_RULE = ("gate", "each", "scope", "inner_rate", "init_sparsity")
_SLOW = ("inner_steps", "meta_rate", "rule_rate")
_PRETRAINING = ("meta_batch", "patience")


def settings(learner: str, alpha: float, ways: int) -> Settings:
    """Return the settings of a learner for contexts of some classes that stay with `alpha`.

    The nearest `alpha` that has settings counts.  They are ``gate``, ``each`` and ``scope`` of the
    rule, ``inner_rate``, ``inner_steps`` and ``meta_rate`` where there is an inner loop,
    ``meta_batch`` and ``patience`` where there is pretraining, and what the learner itself takes.
    """
    if learner not in LEARNERS:
        raise ValueError(f"unknown learner {learner!r}{closest(learner, LEARNERS)}")
    method = LEARNERS[learner]
    tables = method.five_ways, method.ten_ways
    rows = tables[ways >= 8] or tables[ways < 8]
    rule = {"gate": method.gate, "each": method.each, "scope": method.scope}
    return rule | rows[min(rows, key=lambda a: abs(a - alpha))]


def make_rule(
    *, gate: str, each: str, scope: str, inner_rate: float = 0.1, init_sparsity: float = 0.0
) -> Rule:
    """Return a rule that leaves normalisation layers alone, as the network of OSAKA does.

    `each` ``tensor`` or each ``weight`` has a learned number, see
    :class:`~wheretolearn.continual.osaka.rules.TensorRule` and :class:`wheretolearn.rules.Rule`.
    """
    kinds = {"tensor": TensorRule, "weight": Rule}
    if each not in kinds:
        raise ValueError(f"each must be 'tensor' or 'weight', got {each!r}")
    return kinds[each](
        gate=gate,
        inner_rate=inner_rate,
        init_sparsity=init_sparsity,
        scope=scope,
        adapt_norm=False,
    )


def make_learner(
    name: str, chosen: Settings, *, ways: int, side: int, width: int, seed: int, device: str = "cpu"
) -> FastSlowLearner:
    """Make a learner with a new network.

    Parameters
    ----------
    name, chosen
        A key of :data:`LEARNERS`, and all its settings, as from :func:`settings`.
    ways, side, width : int
        Classes, height and width of the images, and channels of each convolution block.
    seed : int
        Seed of the network and of the rule.
    device : str, default "cpu"
        See :func:`wheretolearn.meta.pick_device`.
    """
    parts = {k: {n: chosen[n] for n in k if n in chosen} for k in (_RULE, _SLOW)}
    known = {*_RULE, *_SLOW, *_PRETRAINING}
    others = {n: v for n, v in chosen.items() if n not in known}
    rates = {"rule_rate": chosen["meta_rate"]} if "meta_rate" in chosen else {}
    slow = MetaLearner(
        new_network(ways, side, width, seed),
        make_rule(**parts[_RULE]),
        device=device,
        generator=torch.Generator().manual_seed(seed),
        **rates | parts[_SLOW],
    )
    try:
        return LEARNERS[name].make(slow, **others)
    except TypeError as error:  # a setting that the learner does not have
        raise ValueError(f"{name}: {error}") from None


def new_network(ways: int, side: int, width: int, seed: int) -> ConvNet4:
    """Return a new ConvNet-4 for grey images; torch's global random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ConvNet4(ways, 1, side, width)
