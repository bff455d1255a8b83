"""How runs, problems and settings are named in tables and figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from wheretolearn import networks

from ..runs.experiment import Experiment
from ..runs.records import Record
from .frame import by_experiment, finished

NOT_RUN = "not run yet"

NAMES = {
    "miniimagenet": "miniImageNet",
    "cub": "CUB (2010)",
    "omniglot": "Omniglot",
    "glyphs": "glyphs",
}
"""What data sets are called; the study's edition of CUB is that of 2010."""


def problem_name(experiment: Experiment) -> str:
    """Return data, ways and shots of an experiment, as tables name them."""
    data = NAMES.get(experiment.data, experiment.data)
    return f"{data}, {experiment.ways}-way {experiment.shots}-shot"


def counted(group: Sequence[Record]) -> str:
    """Return how many runs of an experiment finished, as a table says it."""
    done = len(finished(group))
    lost = f" ({len(group) - done} diverged)" if done < len(group) else ""
    return f"{done}{lost}" if group else NOT_RUN


def why_absent(group: Sequence[Record]) -> str:
    """Say why the runs of an experiment have no number."""
    return "not asked" if finished(group) else "diverged" if group else NOT_RUN


def lacking(runs: Mapping[str, Sequence[Record]]) -> list[str]:
    """Name the experiments that have no record, and those some of whose runs diverged."""
    missing = [name for name, group in runs.items() if not group]
    lost = {name: len(group) - len(finished(group)) for name, group in runs.items()}
    diverged = [f"{name} ({bad} of {len(runs[name])})" for name, bad in lost.items() if bad]
    named = {NOT_RUN: missing, "× diverged, left out": diverged}
    return [f"{what}: {', '.join(names)}" for what, names in named.items() if names]


def intervals(records: Sequence[Record]) -> str:
    """Return what a figure of means over seeds has to say of its intervals."""
    several = any(len(group) > 1 for group in by_experiment(finished(records)).values())
    return "mean, Student's 95 % interval over seeds" if several else "no interval"


def seeds_named(records: Sequence[Record], name: Callable[[Record], str]) -> str:
    """Name the seeds of what a figure shows, and experiments that lack some of them."""
    groups = by_experiment(records).values()
    seeds = {name(group[0]): sorted(r["seed"] for r in group) for group in groups}
    every = sorted({s for of_one in seeds.values() for s in of_one})
    fewer = [f"{n}: {_listed(of_one)}" for n, of_one in seeds.items() if of_one != every]
    return _seeds(every) + (f" ({'; '.join(fewer)})" if fewer else "")


def _seeds(numbers: Sequence[int]) -> str:
    return f"{'seed' if len(numbers) == 1 else 'seeds'} {_listed(numbers)}"


def _listed(numbers: Iterable[float]) -> str:
    return ", ".join(f"{n:g}" for n in numbers)


ONE_PROBLEM = ("profile", "data", "ways", "shots", "image_size", "updates", "meta_batch")
"""Parameters that a line about records gives once, so that all of them must have the same."""


def setting(records: Sequence[Record]) -> str:
    """Say in one line what some records of one problem were made with."""
    p = records[0]["parameters"]
    for r in records:
        for name in ONE_PROBLEM:
            if r["parameters"][name] != p[name]:
                raise ValueError(
                    f"{r['experiment']} and {records[0]['experiment']} cannot stand under one "
                    f"label: {name} is {r['parameters'][name]!r} and {p[name]!r}"
                )

    def value(name: str) -> str:
        return _listed(sorted({r["parameters"][name] for r in records}))

    seeds = set.intersection(*({r["seed"] for r in g} for g in by_experiment(records).values()))
    return (
        f"profile {p['profile']} · {p['data']} {p['ways']}-way {p['shots']}-shot · "
        f"{p['image_size']} px · {value('width')} channels · K = {value('inner_steps')} · "
        f"inner rate {value('inner_rate')} · {p['updates']} updates × {p['meta_batch']} tasks · "
        + (_seeds(sorted(seeds)) if seeds else "seeds (none in common)")
    )


def settings(records: Sequence[Record], planned: Iterable[Experiment], shows: str = "") -> str:
    """Say what runs of several problems were made with, and which are missing or diverged.

    What all have in common stands first, then what each problem has of its own.
    """
    every = by_experiment(records)
    groups = {e: every.get(e.name, []) for e in planned}
    by_problem: dict[str, list[Record]] = {}
    for e, group in groups.items():
        by_problem.setdefault(problem_name(e), []).extend(group)
    parts = {name: setting(runs).split(" · ") for name, runs in by_problem.items() if runs}
    if not parts:
        return NOT_RUN
    first, *others = parts.values()
    common = [p for p in first if all(p in other for other in others)]
    differs = {  # after the profile and the problem
        name: [p for p in its[2:] if p not in common] for name, its in parts.items()
    }
    lines = [f"{name}: {', '.join(its)}" for name, its in differs.items() if its]
    shows = shows or intervals([r for group in groups.values() for r in group])
    missing = lacking({e.name: group for e, group in groups.items()})
    return "\n".join([" · ".join([*common, shows]), *lines, *missing])


def stamp(records: Sequence[Record]) -> str:
    """Return the setting and what the bands show, to print under a figure."""
    several = any(len(group) > 1 for group in by_experiment(records).values())
    return setting(records) + (
        " · mean, 95 % bootstrap interval over seeds" if several else " · no interval"
    )


NETWORKS = {name: network.title for name, network in networks.NETWORKS.items()}
"""Networks as the tables call them."""


def shots(number: int) -> str:
    """Return a number of shots in words, such as ``5 shots``."""
    return "1 shot" if number == 1 else f"{number} shots"
