"""The experiments of the continual half, by profile and figure.

``study``, ``search`` and ``paper`` have the streams, memories and networks of the papers, with one
exception: in the study of OSAKA, see :func:`osaka_study`, the network is narrower and pretraining
shorter.  ``quick`` and ``smoke`` have small embedded streams.

The settings of :data:`TUNED` learners are chosen on validation streams, of images and moves that
the study never uses, from :func:`grid`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from wheretolearn.continual.methods import LEARNERS, OPEN, RANDOM, Settings, settings
from wheretolearn.continual.osaka.methods import LEARNERS as LEARNERS_OF_OSAKA

from ..runs.osaka import OsakaExperiment
from ..runs.records import Record
from ..runs.streams import ContinualExperiment

LA_MAML = "continual_la_maml"
SPARSITY = "continual_sparsity"
OSAKA = "continual_osaka"

STREAMS = ("rotations", "permutations", "many-permutations")
"""The streams of the study."""

TITLES = {
    "rotations": "Rotations",
    "permutations": "Permutations",
    "many-permutations": "Many Permutations",
    "split-cifar100": "Split CIFAR-100",
    "glyph-rotations": "Rotations of glyphs",
}
"""What streams are called on the pages."""

TUNED = (
    "replay",
    "c-maml",
    "la-maml",
    "la-maml-straight",
    "sparse-la-maml",
    "sparse-la-maml-plain",
)
"""Learners whose settings are searched for: the sparse ones, what they are compared with, and
experience replay, which has no published settings here.  The others have."""

WITH_RATES = (
    "sync",
    "la-maml",
    "la-maml-straight",
    "sparse-la-maml",
    "sparse-la-maml-plain",
    "la-maml-random",
)
"""Learners with a rate for each weight, any of which can be zero."""

PROBES = {"rotations": 1000, "permutations": 1000, "many-permutations": 200}
"""Test images of each task for accuracies that no metric needs, by stream of the study; all are
used for those that one does."""

SLIPS: dict[str, Settings] = {
    "clamped": {"clamp": 2.0},
    "past-only": {"past_only": True},
    "off-by-one": {"off_by_one": True},
}
"""What the code released with La-MAML meant to do and does not, or does and did not mean to."""


class Change(NamedTuple):
    """One thing that is changed of learners with published settings."""

    learners: tuple[str, ...]
    streams: tuple[str, ...]
    settings: Settings


CHANGES: dict[str, Change] = {
    **{name: Change(("la-maml",), ("rotations",), own) for name, own in SLIPS.items()},
    "slower": Change(
        ("sync",),
        ("permutations",),
        {"inner_rate": settings("c-maml", "permutations")["inner_rate"]},
    ),
    "xavier": Change(("online", "ewc"), STREAMS, {"init": "xavier"}),
    "exact": Change(("gem",), STREAMS, {"exact": True}),
}
"""Experiments called ``<stream>-<learner>-<change>``.  Besides the slips they look at why numbers
differ from those reported: Sync with the inner rate of C-MAML, learners from weights drawn as in
the script that their settings come from, GEM with gradients in double precision."""


def grid(learner: str, stream: str) -> list[Settings]:
    """Return the settings that are tried for a learner, around the published ones of La-MAML."""
    if learner not in TUNED:
        raise ValueError(f"the settings of {learner!r} are not searched for")
    base = settings("la-maml", stream)
    if learner == "replay":
        return [{"rate": r, "glances": g} for g in (1, base["glances"]) for r in (0.03, 0.1, 0.3)]
    if learner == "c-maml":
        own = settings(learner, stream)
        return [
            {"inner_rate": own["inner_rate"] * i, "outer_rate": own["outer_rate"] * o}
            for i in (1, 3)
            for o in (0.5, 1, 2)
        ]
    rate = base["inner_rate"]
    if learner.startswith("la-maml"):
        straight = learner == "la-maml-straight"
        rates = (0.1, 0.3) if straight else (0.03, 0.1, 0.3, 1.0)
        lines: list[tuple[float, float]] = [(r, f) for r in rates for f in (0.5, 1, 2)]
        if not straight:  # the second dozen
            lines += [(r, f) for r in (0.003, 0.01) for f in (0.5, 1, 2)]
            lines += [(r, 0.25) for r in (0.01, 0.03, 0.1, 0.3)]
            lines += [(r, 0.75) for r in (0.03, 0.1)]
        return [{"inner_rate": rate * f, "rule_rate": r} for r, f in lines]
    plain = learner == "sparse-la-maml-plain"
    starts = ((3.0, 0.0), (3.0, 0.5), (30.0, 0.0))
    masks: list[tuple[float, float, float]] = [(r, s, f) for r, s in starts for f in (1, 2)]
    masks += [(3.0, 0.0, 0.5), (3.0, 0.5, 0.5)]  # the second half dozen
    masks += [(r, 0.0, f) for r in (0.3, 1.0) for f in (0.5, 1)]
    return [
        {"inner_rate": rate * f, "rule_rate": r, "init_sparsity": s}
        | ({"outer_rate": rate * f} if plain else {})
        for r, s, f in masks
    ]


CHOSEN: dict[str, int] = {
    "rotations-replay": 5,
    "rotations-c-maml": 0,
    "rotations-la-maml": 12,
    "rotations-la-maml-straight": 1,
    "rotations-sparse-la-maml": 11,
    "rotations-sparse-la-maml-plain": 9,
    "permutations-replay": 4,
    "permutations-c-maml": 0,
    "permutations-la-maml": 22,
    "permutations-la-maml-straight": 1,
    "permutations-sparse-la-maml": 6,
    "permutations-sparse-la-maml-plain": 8,
    "many-permutations-replay": 4,
    "many-permutations-c-maml": 0,
    "many-permutations-la-maml": 22,
    "many-permutations-la-maml-straight": 2,
    "many-permutations-sparse-la-maml": 0,
    "many-permutations-sparse-la-maml-plain": 8,
}
"""Which line of its grid each tuned learner has on each stream: the one with the best retained
accuracy on the validation stream, once all were tried."""

SPARSE_FORM = "sparse-la-maml"
"""Which form of sparse-La-MAML is compared with La-MAML, ``sparse-la-maml`` or
``sparse-la-maml-plain``: the one that retained more in the search, over all streams, once all was
tried; see :func:`reproduction.report.la_maml_search.chosen_form`."""


def _named(stream: str, learner: str, **changes: Any) -> ContinualExperiment:
    own: dict[str, Any] = {
        "name": f"{stream}-{learner}",
        "figure": LA_MAML,
        "profile": "study",
        "probe": PROBES.get(stream),
    }
    return ContinualExperiment(**own | {"stream": stream, "learner": learner} | changes)


SEARCHED_FOR_ANOTHER = {
    "la-maml-random": ("sparse-la-maml", RANDOM),
    "la-maml-open": ("sparse-la-maml", OPEN),
}
"""Learners that take what the search chose for another one, and what they change of it."""


def chosen_for(learner: str) -> str:
    """Return the learner whose search a tuned learner's settings come from."""
    return SEARCHED_FOR_ANOTHER.get(learner, (learner, {}))[0]


def _chosen(learner: str, stream: str) -> Settings:
    searched, fixed = SEARCHED_FOR_ANOTHER.get(learner, (learner, {}))
    return grid(searched, stream)[CHOSEN.get(f"{stream}-{searched}", 0)] | fixed


def la_maml(profile: str = "study") -> list[ContinualExperiment]:
    """Return every learner on every stream of the study."""
    if profile == "paper":
        streams = (*STREAMS, "split-cifar100")
        return [
            _named(s, learner, profile="paper", probe=None) for s in streams for learner in LEARNERS
        ]
    published = [
        _named(s, learner)
        for s in STREAMS
        for learner in LEARNERS
        if learner not in (*TUNED, *SEARCHED_FOR_ANOTHER) or learner in ("la-maml", "c-maml")
    ]
    tuned = [
        _named(
            s,
            learner,
            name=f"{s}-{learner}-tuned",
            settings=_chosen(learner, s),
        )
        for s in STREAMS
        for learner in (*TUNED, *SEARCHED_FOR_ANOTHER)
    ]
    return [*published, *tuned, *(e for change in CHANGES for e in changed(change))]


def changed(change: str) -> list[ContinualExperiment]:
    """Return the study's experiments with one of the :data:`CHANGES`, stream by stream."""
    learners, streams, own = CHANGES[change]
    return [
        _named(s, learner, name=f"{s}-{learner}-{change}", settings=own)
        for s in streams
        for learner in learners
    ]


def search() -> list[ContinualExperiment]:
    """Return the runs on validation streams, ``<stream>-<learner>-<line of the grid>``."""
    return [
        _named(
            stream,
            learner,
            name=f"{stream}-{learner}-{line}",
            profile="search",
            settings=changes,
            validation=True,
            probe=100,
        )
        for stream in STREAMS
        for learner in TUNED
        for line, changes in enumerate(grid(learner, stream))
    ]


def best_lines(records: Iterable[Record]) -> dict[str, int]:
    """Return which line of its grid retained most, for each learner and stream of a search."""
    found: dict[str, dict[int, float]] = {}
    for r in records:
        if r["status"] == "finished":
            name, _, line = r["experiment"].rpartition("-")
            found.setdefault(name, {})[int(line)] = r["final"]["ra"]
    return {name: max(sorted(tried), key=tried.__getitem__) for name, tried in found.items()}


def quick(profile: str = "quick") -> list[ContinualExperiment]:
    """Return all learners on the small embedded stream, cut short where they are slow."""
    short: dict[str, Settings] = {
        "online": {"rate": 0.01},
        "ewc": {"rate": 0.01, "strength": 1.0},
    }
    return [
        _named(
            "glyph-rotations",
            learner,
            profile=profile,
            settings=short.get(learner, {}),
        )
        for learner in LEARNERS
    ]


def smoke() -> list[ContinualExperiment]:
    """Return a few learners on the small stream, with a tiny network and one glance."""
    return [
        e.replace(profile="smoke", width=4, probe=20, settings=e.settings | {"glances": 1})
        for e in quick()
        if e.learner in ("replay", "la-maml", "sparse-la-maml")
    ]


def of_sparsity(experiments: Iterable[ContinualExperiment]) -> list[ContinualExperiment]:
    """Return those of some experiments whose learners can freeze weights."""
    return [e for e in experiments if e.learner in WITH_RATES]


OSAKA_LEARNERS = (
    "online-sgd",
    "online-adam",
    "fine-tuning",
    "maml",
    "anil",
    "sparse-maml",
    "c-maml",
    "c-maml-zero",
    "c-maml-pre",
    "c-maml-um",
    "c-maml-pap",
    "sparse-c-maml",
    "sparse-c-maml-gates",
    "sparse-c-maml-weights",
)
"""Learners of the study of OSAKA."""

ALPHAS = (0.98, 0.90)


def osaka(profile: str = "study", ways: int = 5, **changes: Any) -> list[OsakaExperiment]:
    """Return the learners in OSAKA's stream at both probabilities."""
    return [
        OsakaExperiment(
            name=f"osaka{100 * alpha:.0f}-{ways}way-{learner}",
            figure=OSAKA,
            profile=profile,
            alpha=alpha,
            ways=ways,
            learner=learner,
        ).replace(**changes)
        for learner in OSAKA_LEARNERS
        for alpha in ALPHAS
        if (learner, alpha) != ("c-maml-zero", 0.90)  # c-maml itself
    ]


IN_TEN_WAYS = ("online-adam", "c-maml", "c-maml-um", "c-maml-pap", "sparse-c-maml")
"""Learners of the study that meet ten classes at a time, too."""


def osaka_study() -> list[OsakaExperiment]:
    """Return what a few CPU cores can afford of :func:`osaka`."""
    few = [
        e.replace(settings={"meta_batch": min(4, e.chosen["meta_batch"])})
        if LEARNERS_OF_OSAKA[e.learner].pretraining == "meta"
        else e
        for e in osaka(width=16, epochs=20)
    ]
    many = [e for e in osaka(ways=10, width=16, steps=2000) if e.learner in IN_TEN_WAYS]
    return few + many


def osaka_quick(profile: str = "quick") -> list[OsakaExperiment]:
    """Return some learners on glyphs, with a narrow network and a short stream."""
    small: dict[str, Any] = {
        "stream": "glyph-scripts",
        "steps": 120 if profile == "quick" else 12,
        "shots": 2,
        "width": 8 if profile == "quick" else 4,
    }
    wanted: tuple[str, ...] = ("c-maml", "sparse-c-maml")
    if profile == "quick":
        wanted += ("online-adam", "c-maml-pap", "sparse-c-maml-weights")
    runs = [e for e in osaka(profile, **small) if e.learner in wanted and e.alpha == 0.90]
    fast = {"c-maml-pap": 0.03, "sparse-c-maml": 0.03, "sparse-c-maml-weights": 0.03}
    return [
        e.replace(settings={"rule_rate": fast[e.learner]}) if e.learner in fast else e for e in runs
    ]
