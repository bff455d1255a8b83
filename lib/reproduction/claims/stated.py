"""The tests of the claims as data: what each asks for, and the rules of its verdict.

They repeat what the chapter "Decided beforehand" says and what the functions that test do, with
thresholds from where these have them.  The ledger shows them beside claims that have no runs yet,
and compares the evidence with them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from reproduction.claims.figure1 import EMERGES, SETTLES, THAWS
from reproduction.claims.finding import ABOVE, NOTHING
from reproduction.report.curves import LAYERS

from ..report.robustness import LARGE_RATES
from ..runs.experiment import Experiment
from ..runs.osaka import OsakaExperiment
from . import osaka as osaka_claims
from .few_shot import LITTLE, LOST, P_IN_PART, ZERO_RATES, P
from .streams import CHANCE


class Stated(NamedTuple):
    """A test as it was stated: before its runs, but for :data:`RESNET12_MASKS`."""

    statistics: tuple[tuple[str, str], ...]
    """Each statistic, as the evidence calls it, and what is needed of it."""
    supported: str
    """When the claim is."""
    partly: str
    """When it is partly supported; in every other case it is not supported."""
    diverged: str
    """What a run that diverged does."""

    def as_data(self) -> dict[str, Any]:
        """Return it as it stands in ``results/claims.json``."""
        return {
            "statistics": [{"statistic": s, "needed": n} for s, n in self.statistics],
            "supported": self.supported,
            "partly supported": self.partly,
            "diverged": self.diverged,
        }


_NEVER = "never"
_NAMED = "left out of the means, and named in the verdict"


def _chance(runs: Iterable[Experiment | OsakaExperiment]) -> str:
    (ways,) = {e.ways for e in runs}
    return f"counts with the accuracy of chance, {100 / ways:g} %"


def _against(method: str) -> str:
    return f"{_NAMED}; the claim is not supported if it is a run of {method}"


EMERGENCE = Stated(
    (
        ("final sparsity from 0 %", f"interval above {EMERGES}"),
        ("final sparsity from 100 %", f"interval below {THAWS}"),
        ("spread between levels, end / start", f"interval below {SETTLES}"),
        ("change in first − last quarter, from 0 %", ABOVE),
        ("change in first − last quarter, from 100 %", ABOVE),
    ),
    "all five hold",
    "the first two hold",
    _NAMED,
)
"""Claim 1."""

LAYER_ORDER = Stated(
    (
        *((f"{a} − {b}", ABOVE) for a, b in itertools.pairwise(LAYERS)),
        ("layer1 − output", ABOVE),
        ("rank correlation of depth and sparsity", "interval below 0"),
    ),
    "the first four hold, the differences between neighbouring layers",
    "the last two hold",
    _NAMED,
)
"""Claim 2."""

ACCURACY_GAIN = Stated(
    (
        *((f"sparse-MAML from {p} % − MAML", ABOVE) for p in (0, 20, 50, 80, 100)),
        ("mean over levels − MAML", ABOVE),
        ("from 50 % − mean of the others", ABOVE),
    ),
    "the five gains and the last line hold",
    "the mean over levels holds and no gain has its interval below 0",
    _NAMED,
)
"""Claim 3."""


def robustness(runs: Iterable[Experiment]) -> Stated:
    """Return the test of claim 4, which has a line for each setting of Figure 2."""
    runs = list(runs)
    settings = sorted({(e.inner_steps, e.inner_rate, e.width) for e in runs})
    rates = [f"{r:g}" for r in LARGE_RATES]
    return Stated(
        (
            ("mean gain over all settings", "above 0"),
            *(
                (f"gain at K = {k}, rate {r:g}, {w} channels", "not below 0")
                for k, r, w in settings
            ),
            *((f"loss of MAML − loss of sparse-MAML at rate {r}", "above 0") for r in rates),
            ("slope of sparsity on log inner rate", "above 0"),
            ("slope of sparsity on log inner steps", "above 0"),
            ("slope of sparsity on log channels", "below 0"),
        ),
        "all hold",
        "all gains hold, or both lines on losses",
        f"{_chance(runs)}; in a slope its setting is left out",
    )


def convnet4_order(of: str, shots: Sequence[int]) -> Stated:
    """Return the test of claim 5 on ConvNet-4."""
    order = ("sparse-maml", "boil", "maml", "anil")
    neighbours = list(itertools.pairwise(order))
    return Stated(
        (
            *((f"{of}-{n}shot: {a} − {b}", ABOVE) for n in shots for a, b in neighbours),
            *((f"{of}-{n}shot: sparse-maml − maml", ABOVE) for n in shots),
            *((f"{of}-{n}shot: sparse-maml − anil", NOTHING) for n in shots),
        ),
        f"the first {len(shots) * len(neighbours)} hold, the differences between neighbours in "
        "the order",
        "sparse-maml − maml holds for one number of shots and has its interval below 0 for none"
        if len(shots) > 1
        else "sparse-maml − maml holds",
        _against("sparse-MAML"),
    )


RESNET12_BEST = Stated(
    tuple(
        (f"resnet12-{shots}shot: sparse-relu-maml − {other}", ABOVE)
        for shots in (1, 5)
        for other in ("maml", "anil", "boil", "sparse-maml")
    ),
    "all hold",
    "the line against maml holds for one number of shots, and no line has its interval below 0",
    _against("sparse-ReLU-MAML"),
)
"""Claim 5 on ResNet-12."""

RESNET12_MASKS = Stated(
    tuple((f"resnet12-{n}shot: sparse-maml − anil", f"interval within ±{LITTLE}") for n in (1, 5)),
    "both hold",
    f"one holds and no interval lies wholly outside of ±{LITTLE}",
    _against("sparse-MAML"),
)
"""The rest of claim 5, stated when its runs were known."""

CROSS_DOMAIN = Stated(
    (
        ("gain on CUB, 5 shots", ABOVE),
        ("gain on CUB − gain on miniImageNet", ABOVE),
        ("gain on CUB, 5 shots − 1 shot", NOTHING),
    ),
    "the first two hold",
    "only the first holds",
    _against("sparse-MAML"),
)
"""Claim 6."""

RELU_SPARSITY = Stated(
    (
        ("final share of rates at zero", f"interval above {ZERO_RATES}"),
        ("layer1 − output", "interval without 0"),
    ),
    "both hold",
    "only the first holds",
    _against("sparse-ReLU-MAML"),
)
"""Claim 7."""

BY_PROBLEM = Stated(
    (("pseudo-F between problems", NOTHING), ("p by permutation", f"below {P}")),
    f"p is below {P}",
    f"p is below {P_IN_PART}",
    _against("sparse-MAML on any of the problems"),
)
"""Claim 8: a permutation test, without intervals."""

LONGER_LOOPS = Stated(
    (
        ("loss of MAML − loss of sparse-MAML", ABOVE),
        ("loss of sparse-MAML", f"interval not above {LOST}"),
        ("loss of MAML", NOTHING),
    ),
    "the first two hold",
    "only the first holds",
    _against("sparse-MAML"),
)
"""Claim 11."""

PATTERN_AND_DENSITY = Stated(
    (("own masks − shuffled within tensors", ABOVE),),
    "it holds",
    _NEVER,
    _against("training under the learned masks as they are"),
)
"""Claim 12, the first question."""

FEATURES_MOVE_LESS = Stated(
    (("similarity, sparse-MAML − MAML", ABOVE),), "it holds", _NEVER, _against("sparse-MAML")
)
"""Claim 12, the second question."""

_STREAMS = ("Rotations", "Permutations", "Many Permutations")

RETAINS_MORE = Stated(
    (
        *((f"BTI on {s}: sparse-La-MAML − La-MAML", ABOVE) for s in _STREAMS),
        *((f"RA on {s}: sparse-La-MAML − La-MAML", "interval not below 0") for s in _STREAMS),
        ("RA on the stream where its interval begins highest", ABOVE),
        *((f"LA on {s}: sparse-La-MAML − La-MAML", NOTHING) for s in _STREAMS),
    ),
    "all gains in BTI hold, no gain in RA is below 0, and one is above",
    "one gain in BTI holds and no gain in RA is below 0",
    f"La-MAML's counts with the accuracy of chance, {CHANCE['ra']:g} %, and a BTI of "
    f"{CHANCE['bti']:g}; if one of sparse-La-MAML "
    "diverged, the claim is not supported",
)
"""Claim 9."""

ONLINE_ACCURACY = Stated(
    (("gain at p = 0.98", ABOVE), ("gain at p = 0.90", ABOVE)),
    "both hold",
    "one holds and the other has no interval below 0",
    _chance(osaka_claims.runs(osaka_claims.SAME_BUT_DENSE)),
)
"""Claims 10a and 10b."""
