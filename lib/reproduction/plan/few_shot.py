"""The experiments of the few-shot half, by figure.

A profile is one base experiment for each network and number of shots; everything else
is that base with one thing changed.  Runs that several figures show are the same run.
With the paper's settings :func:`without_twins` sees to it where figures start from equal
bases under different names; in the other profiles a figure may have a run of its own that
equals another's but for its probes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from wheretolearn.rules import METHODS

from ..runs.experiment import Experiment
from ..runs.records import Record

FIG1 = "fig1_sparsity_emerges"
FIG2 = "fig2_robustness"
TABLE1 = "table1_miniimagenet"
TABLE2 = "table2_cross_domain"
BY_PROBLEM = "sparsity_by_problem"
LEARNED_RATES = "learned_rates"
RESNET12 = "resnet12_sparsity"
LONGER = "longer_inner_loops"
FEATURES = "features_or_reuse"
TRAINED_LONG = "trained_long"

FIG1_SPARSITIES = (0, 20, 25, 50, 75, 80, 100)
"""Initial sparsities of Figure 1, percent: 0/25/50/75/100 on the left, 0/20/50/80/100 on the
right."""

METHODS_OF_TABLE_1 = (
    "maml",
    "anil",
    "boil",
    "meta-sgd",
    "sparse-maml",
    "sparse-relu-maml",
    "sparse-maml-plus",
)
"""In the order of the table; the variants of the released code and exact MAML follow.  These are
the methods of Table 2, too."""

VARIANTS = ("relu-maml", "exp-maml", "masked-weights")


def fig1(base: Experiment) -> list[Experiment]:
    """Return the runs of Figure 1 on one problem: MAML, and sparse-MAML by initial sparsity."""
    return [base.replace(name=f"{base.name}-maml", method="maml", init_sparsity=0.0)] + [
        base.replace(
            name=f"{base.name}-sparse{percent}",
            method="sparse-maml",
            init_sparsity=percent / 100,
        )
        for percent in FIG1_SPARSITIES
    ]


def of_method(base: Experiment, method: str, **changes: object) -> Experiment:
    """Return the run of a method: masks start half frozen, everything else is the base's."""
    own: dict[str, object] = {
        "name": f"{base.name}-{method}",
        "method": method,
        "init_sparsity": METHODS[method].start if method in METHODS else 0.0,
    }
    return base.replace(**own | changes)


class Grid(NamedTuple):
    """What Figure 2 goes through; each list holds the base's own value."""

    inner_rate: Sequence[float]
    inner_steps: Sequence[int]
    width: Sequence[int]


def fig2(base: Experiment, grid: Grid) -> list[Experiment]:
    """Return MAML and sparse-MAML over inner rates, inner steps and widths."""
    short = {"inner_rate": "rate", "inner_steps": "steps", "width": "width"}
    found = {}
    for panel, values in grid._asdict().items():
        for value in values:
            for method in ("maml", "sparse-maml"):
                run = of_method(base, method)
                if value != getattr(base, panel):
                    run = run.replace(name=f"{run.name}-{short[panel]}{value}", **{panel: value})
                found[run.name] = run
    return list(found.values())


class Bases(NamedTuple):
    """What the runs behind Table 1 and the pages after it start from."""

    columns: Sequence[Experiment]
    """Columns of Table 1, such as ``convnet4-5shot``: network, shots and budget.  The inner loops
    of the first one are looked into."""
    problems: Sequence[Experiment]
    """Problems for one network with one budget; masks are borrowed from the last one."""
    methods: Mapping[str, Sequence[str]]
    """The methods of each column."""
    second_order: Sequence[str] = ()
    """Columns in which MAML is run with its exact meta-gradient, too."""
    rates: Mapping[str, float] = {}
    """Inner rate of each run of Table 1, by its name; that of its column where it is absent."""
    own: Mapping[str, Mapping[str, object]] = {}
    """What else a method has of its own."""
    elsewhere: Sequence[str] = ()
    """Data sets that the networks of Table 1 are tested on, too."""
    longer: Mapping[str, int] = {}
    """Updates and validations of runs of the first column that are trained once more, for
    longer."""
    grey: Sequence[Experiment] = ()
    """Further problems whose networks are tested on other kinds of images, of one channel."""


PROBED = ("maml", "anil", "boil", "sparse-maml", "sparse-relu-maml")
"""Methods whose inner loops are looked at: moving features, interference."""

LENGTHENED = ("maml", "anil", "sparse-maml")
"""Methods whose inner loops go on after training: those that claim 11 compares, and a control."""

LONGER_RUNS = "longer"
"""What the names of runs begin with that are trained longer, in place of ``convnet4``."""

TRAINED_LONGER = ("maml", "anil", "boil", "sparse-maml")
"""Methods that are trained once more, for longer: those whose order claim 5 is about."""

SAME_RATE = {name: method.searched for name, method in METHODS.items() if method.searched}
"""Variants that take the inner rate of the method that they vary, without a search of their own."""


GREY_ELSEWHERE = ("fashion-mnist", "mnist", "glyphs")
"""What networks that were trained on images of one channel are tested on, too."""

GREY_METHODS = ("maml", "sparse-maml")
"""By which methods they are trained."""


def table1(bases: Bases) -> dict[str, list[Experiment]]:
    """Return the runs of Table 1, by column."""
    return {
        column.name: [
            of_method(
                column,
                method,
                inner_rate=bases.rates.get(
                    f"{column.name}-{SAME_RATE.get(method, method)}", column.inner_rate
                ),
                probes=_probes(method, bases) if column.network == "convnet4" else (),
                **bases.own.get(method, {}),
            )
            for method in bases.methods[column.name]
        ]
        for column in bases.columns
    }


def _probes(method: str, bases: Bases) -> tuple[str, ...]:
    inside = ("movement", "interference") if method in PROBED else ()
    steps = ("steps",) if method in LENGTHENED else ()
    masks = ("masks",) if method == "sparse-maml" else ()
    away = [f"on:{data}" for data in bases.elsewhere] if method in METHODS_OF_TABLE_1 else []
    return (*steps, *inside, *masks, *away)


def trained_longer(run: Experiment, longer: Mapping[str, int]) -> Experiment:
    """Return a run of Table 1 again, trained for longer."""
    steps = ("steps",) if run.method in ("maml", "sparse-maml") else ()
    return run.replace(
        name=run.name.replace("convnet4", LONGER_RUNS, 1),
        probes=(*steps, "movement", "on:cub"),
        **longer,
    )


def after_figure_2(bases: Bases) -> dict[str, list[Experiment]]:
    """Return the runs of Table 1 and of all pages that look into them, by page."""
    columns = table1(bases)
    every = [run for column in columns.values() for run in column]
    convnets = [run for run in every if run.network == "convnet4"]
    resnets = [run for run in every if run.network == "resnet12"]
    looked_at = {run.method: run for run in columns[bases.columns[0].name]}
    problems = [of_method(problem, "sparse-maml") for problem in bases.problems]
    exact = [
        exact_maml(run)
        for name in bases.second_order
        for run in columns[name]
        if run.method == "maml"
    ]
    longer = [
        trained_longer(run, bases.longer)
        for run in looked_at.values()
        if bases.longer and run.method in TRAINED_LONGER
    ]
    grey = [
        of_method(base, method, probes=tuple(f"on:{data}" for data in GREY_ELSEWHERE))
        for base in bases.grey
        for method in GREY_METHODS
    ]
    figures = {
        TABLE1: every + exact + longer,
        TABLE2: [run for run in convnets if any(p.startswith("on:") for p in run.probes)] + grey,
        BY_PROBLEM: problems,
        LEARNED_RATES: [
            run for run in convnets if run.method in ("sparse-relu-maml", "meta-sgd", "sparse-maml")
        ],
        RESNET12: [run for run in resnets if run.method.startswith("sparse")],
        LONGER: [run for run in convnets if "steps" in run.probes],
        FEATURES: [
            *(run for run in looked_at.values() if "movement" in run.probes),
            problems[-1],
            *with_masks_of(looked_at["sparse-maml"], problems[-1]),
        ],
    }
    return {name: runs for name, runs in figures.items() if runs}


def without_twins(figures: Mapping[str, Sequence[Experiment]]) -> dict[str, list[Experiment]]:
    """Let figures take the runs of earlier ones where all but the names is equal."""
    first: dict[Experiment, Experiment] = {}
    return {
        name: [first.setdefault(run.replace(name="any", figure=""), run) for run in runs]
        for name, runs in figures.items()
    }


def search(column: Sequence[Experiment], rates: Sequence[float]) -> list[Experiment]:
    """Return short runs of each method at each inner rate, to choose from."""
    return [
        run.replace(
            name=f"{run.name}-rate{rate}",
            profile="search",
            inner_rate=rate,
            updates=run.updates // 2,
            eval_every=run.updates // 6,
            val_tasks=50,
            test_tasks=0,
            probes=(),
        )
        for run in column
        if run.method not in SAME_RATE
        for rate in rates
    ]


def best_rates(records: Iterable[Record]) -> dict[str, float]:
    """Return the inner rate with the best validation accuracy for each run of a search."""
    found: dict[str, dict[float, float]] = {}
    for r in records:
        if r["status"] == "finished":
            name, _, rate = r["experiment"].rpartition("-rate")
            found.setdefault(name, {})[float(rate)] = trained_validation(r)
    return {name: max(sorted(tried), key=tried.__getitem__) for name, tried in found.items()}


def trained_validation(record: Record) -> float:
    """Return the best validation accuracy of a run, that before training left out."""
    return max(record["curves"]["val_accuracy"][1:])


def exact_maml(maml: Experiment) -> Experiment:
    """Return MAML with the exact, second-order meta-gradient."""
    return maml.replace(name=f"{maml.name}-second-order", order=2, probes=())


def with_masks_of(sparse: Experiment, elsewhere: Experiment | None = None) -> list[Experiment]:
    """Return runs that learn the weights only, under masks that were learned before."""
    base = sparse.replace(figure=FEATURES, probes=())
    runs = [
        base.replace(name=f"{sparse.name}-{how}-masks", masks_from=sparse.name, masks_as=how)
        for how in ("own", "shuffled", "random")
    ]
    if elsewhere is not None:
        runs.append(base.replace(name=f"{sparse.name}-other-masks", masks_from=elsewhere.name))
    return runs


class Repeated(NamedTuple):
    """An experiment, and with how many seeds it is run."""

    experiment: Experiment
    seeds: int


def long_runs(base: Experiment, chosen: Mapping[str, float]) -> list[Repeated]:
    """Return the runs that decide claims about accuracy, the decisive ones first."""
    away = ("on:cub", "on:cars")
    looked_into = ("steps", "movement", *away)
    maml, sparse, anil = (
        of_method(base, m, probes=looked_into) for m in ("maml", "sparse-maml", "anil")
    )
    shuffled = with_masks_of(sparse)[1].replace(figure=base.figure)
    one_shot = base.replace(name=base.name.replace("5shot", "1shot"), shots=1)
    few_steps = base.replace(name="k5-5shot", inner_steps=5, updates=15_000)
    many_steps = base.replace(name="k25-5shot", inner_steps=25)

    def at(run: Experiment, rate: float) -> Experiment:
        return run.replace(name=f"{run.name}-rate{rate}", inner_rate=rate)

    at_own_rate = [
        Repeated(at(of_method(base, method, probes=away), chosen[method]), seeds)
        for method, seeds in {"maml": 6, "sparse-maml": 6, "boil": 5, "sparse-relu-maml": 5}.items()
        if method in chosen
        and (method, chosen[method]) not in (("maml", 0.1), ("sparse-maml", 0.1))
    ]
    return [
        *(Repeated(run, 8) for run in (maml, sparse, anil, shuffled)),
        *at_own_rate,
        *(
            Repeated(of_method(one_shot, method, probes=away), 5)
            for method in ("maml", "anil", "boil", "sparse-maml", "sparse-relu-maml")
        ),
        Repeated(of_method(few_steps, "maml"), 3),
        Repeated(at(of_method(few_steps, "sparse-maml"), 0.2), 3),
        *(
            Repeated(sparse.replace(name=f"{base.name}-sparse{p}", init_sparsity=p / 100), 2)
            for p in (0, 25, 75, 100)
        ),
        *(
            Repeated(at(of_method(base, method), rate), 2)
            for rate in (0.01, 1.0)
            for method in ("maml", "sparse-maml")
        ),
        Repeated(at(of_method(many_steps, "maml"), 0.05), 2),
        Repeated(at(of_method(many_steps, "sparse-maml"), 0.5), 2),
    ]


def long_search(base: Experiment) -> list[Experiment]:
    """Return the runs that choose the rate of each method for :func:`long_runs`."""
    tried = {
        "maml": (0.05, 0.1, 0.2),
        "sparse-maml": (0.1, 0.2, 0.5),
        "boil": (0.1, 0.2, 0.5),
        "sparse-relu-maml": (0.02, 0.05, 0.1),
    }
    short = base.replace(profile="search", updates=6000, val_tasks=300, test_tasks=0)
    return [
        of_method(short, method, name=f"{short.name}-{method}-rate{rate}", inner_rate=rate)
        for method, rates in tried.items()
        for rate in rates
    ]
