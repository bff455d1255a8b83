"""The experiments of the few-shot half, by figure.

A profile is one base experiment for each network and number of shots; everything else
is that base with one thing changed.  Runs that several figures show are the same run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .experiments import Experiment

FIG1 = "fig1_sparsity_emerges"
FIG2 = "fig2_robustness"
TABLE1 = "table1_miniimagenet"
TABLE2 = "table2_cross_domain"
BY_PROBLEM = "sparsity_by_problem"
LEARNED_RATES = "learned_rates"
RESNET12 = "resnet12_sparsity"
LONGER = "longer_inner_loops"
FEATURES = "features_or_reuse"

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
"""In the order of the table; the variants of the released code and exact MAML follow."""

VARIANTS = ("relu-maml", "exp-maml", "masked-weights")

STARTS_HALF_FROZEN = ("sparse-maml", "sparse-maml-plus", "masked-weights")


def fig1(base: Experiment) -> list[Experiment]:
    """Return the runs of Figure 1 on one problem: MAML, and sparse-MAML by initial sparsity.

    Parameters
    ----------
    base : Experiment
        The problem and the budget; its name is the prefix of the names.

    Returns
    -------
    list of Experiment
    """
    return [base.replace(name=f"{base.name}-maml", method="maml", init_sparsity=0.0)] + [
        base.replace(
            name=f"{base.name}-sparse{percent}",
            method="sparse-maml",
            init_sparsity=percent / 100,
        )
        for percent in FIG1_SPARSITIES
    ]


def of_method(base: Experiment, method: str, **changes: object) -> Experiment:
    """Return the run of a method: masks start half frozen, everything else is the base's.

    Parameters
    ----------
    base : Experiment
        The problem and the budget; its name is the prefix of the name.
    method : str
        A key of ``wheretolearn.rules.METHODS``.
    **changes
        Further fields.

    Returns
    -------
    Experiment
        Called ``<base>-<method>``, unless `changes` say otherwise.
    """
    own: dict[str, object] = {
        "name": f"{base.name}-{method}",
        "method": method,
        "init_sparsity": 0.5 if method in STARTS_HALF_FROZEN else 0.0,
    }
    return base.replace(**own | changes)


class Grid(NamedTuple):
    """What Figure 2 goes through; each list holds the base's own value."""

    inner_rate: Sequence[float]
    inner_steps: Sequence[int]
    width: Sequence[int]


def fig2(base: Experiment, grid: Grid) -> list[Experiment]:
    """Return MAML and sparse-MAML over inner rates, inner steps and widths.

    Parameters
    ----------
    base : Experiment
        The setting that the three panels share.
    grid : Grid
        The values.

    Returns
    -------
    list of Experiment
        Called ``<base>-<method>`` at the base's setting, else with the change at the end.
    """
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


def table1(
    base: Experiment,
    rates: Mapping[str, float],
    methods: Sequence[str],
    probes: Mapping[str, tuple[str, ...]],
    noise: int = 0,
) -> list[Experiment]:
    """Return a column of Table 1: one run for each method.

    Parameters
    ----------
    base : Experiment
        Network, shots and budget.
    rates : mapping of str to float
        Inner rate of each method; the base's own where it is absent.
    methods : sequence of str
        Which.
    probes : mapping of str to tuple of str
        What else is asked of a method.
    noise : int, default 0
        Numbers of noise of sparse-MAML+; 0 is the paper's.

    Returns
    -------
    list of Experiment
    """
    return [
        of_method(
            base,
            method,
            inner_rate=rates.get(method, base.inner_rate),
            probes=tuple(probes.get(method, ())),
            noise=noise if method == "sparse-maml-plus" else 0,
        )
        for method in methods
    ]


def exact_maml(maml: Experiment) -> Experiment:
    """Return MAML with the exact, second-order meta-gradient."""
    return maml.replace(name=f"{maml.name}-second-order", order=2, probes=())


def with_masks_of(sparse: Experiment, elsewhere: Experiment | None = None) -> list[Experiment]:
    """Return runs that learn the weights only, under masks that were learned before.

    Parameters
    ----------
    sparse : Experiment
        The run of sparse-MAML whose masks are kept, shuffled and scattered.
    elsewhere : Experiment, optional
        A run of sparse-MAML on another problem, with the same network.

    Returns
    -------
    list of Experiment
    """
    base = sparse.replace(figure=FEATURES, probes=())
    runs = [
        base.replace(name=f"{sparse.name}-{how}-masks", masks_from=sparse.name, masks_as=how)
        for how in ("own", "shuffled", "random")
    ]
    if elsewhere is not None:
        runs.append(base.replace(name=f"{sparse.name}-other-masks", masks_from=elsewhere.name))
    return runs
