"""What is run: the experiments behind each figure, by profile.

``quick``   embedded data, minutes on a laptop; what ``make book`` trains
``study``   real data on two CPU cores, five seeds; its records come with the project
``paper``   the paper's hyper-parameters, for a GPU
``search``  short runs that never see a test class, to choose the study's inner rates
``smoke``   a few updates, for tests
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from wheretolearn.suggestions import closest

from ..runs.experiment import Experiment, Planned
from . import streams as continual
from .change import changed, parts, read_changes
from .few_shot import (
    BY_PROBLEM,
    FEATURES,
    FIG1,
    FIG2,
    METHODS_OF_TABLE_1,
    SAME_RATE,
    TABLE1,
    TABLE2,
    TRAINED_LONG,
    VARIANTS,
    Bases,
    Grid,
    after_figure_2,
    fig1,
    fig2,
    long_runs,
    long_search,
    search,
    table1,
    without_twins,
)

PROFILES = ("quick", "study", "search", "paper", "smoke")
"""Names of the profiles."""

SPEED = "speed"
"""Notebook of the benchmark."""


class Run(NamedTuple):
    """One experiment with one seed."""

    experiment: str
    seed: int
    figure: str
    profile: str
    record: str
    """Path of the record, relative to the root of the project."""
    seconds: float
    """Estimated time on one CPU core."""


_QUICK = Experiment(
    name="fig1-glyphs",
    figure=FIG1,
    profile="quick",
    data="glyphs",
    image_size=28,
    ways=5,
    shots=1,
    queries=5,
    width=16,
    inner_rate=0.1,
    inner_steps=5,
    meta_batch=3,
    updates=120,
    eval_every=15,
    val_tasks=20,
    test_tasks=60,
)

_QUICK_FIG2 = _QUICK.replace(name="fig2-glyphs", figure=FIG2, updates=40, eval_every=20)
_QUICK_GRID = Grid(inner_rate=(0.1, 0.5, 1.0), inner_steps=(1, 5), width=(8, 16))
_TO_SMOKE: dict[str, Any] = {
    "profile": "smoke",
    "width": 4,
    "image_size": 16,
    "updates": 2,
    "eval_every": 1,
    "val_tasks": 2,
    "test_tasks": 3,
}

_OMNIGLOT = Experiment(
    name="fig1-omniglot",
    figure=FIG1,
    profile="study",
    data="omniglot",
    image_size=28,
    ways=20,
    shots=1,
    queries=3,
    width=32,
    inner_rate=0.1,
    inner_steps=5,
    meta_batch=2,
    updates=600,
    eval_every=50,
    val_tasks=30,
    test_tasks=300,
)

_MINIIMAGENET = Experiment(
    name="fig1-miniimagenet",
    figure=FIG1,
    profile="study",
    data="miniimagenet",
    image_size=42,
    ways=5,
    shots=5,
    queries=15,
    width=32,
    inner_rate=0.1,
    inner_steps=5,
    meta_batch=2,
    updates=800,
    eval_every=80,
    val_tasks=50,
    test_tasks=300,
)

_PAPER = Experiment(name="fig1-miniimagenet", figure=FIG1, away_tasks=500)
_PAPER_FIG2 = _PAPER.replace(name="fig2-miniimagenet", figure=FIG2)
_PAPER_GRID = Grid(
    inner_rate=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.75, 1.0),
    inner_steps=(5, 15, 25),
    width=(32, 64, 128, 256),
)

# The few-shot study: miniImageNet at 32 x 32 pixels, so that every setting gets five seeds.
_FEW_SHOT = Experiment(
    name="fig2-miniimagenet",
    figure=FIG2,
    profile="study",
    data="miniimagenet",
    image_size=32,
    ways=5,
    shots=5,
    queries=5,
    width=32,
    inner_rate=0.1,
    inner_steps=5,
    meta_batch=2,
    updates=600,
    eval_every=200,
    val_tasks=40,
    test_tasks=300,
)
_STUDY_GRID = Grid(inner_rate=(0.01, 0.1, 0.2, 0.5, 1.0), inner_steps=(1, 5, 10), width=(8, 16, 32))

# The runs that decide claims about accuracy: trained until the network has learned.
_LONG = _FEW_SHOT.replace(
    name="k15-5shot",
    figure=TRAINED_LONG,
    inner_steps=15,
    updates=12_000,
    eval_every=1000,
    val_tasks=200,
    test_tasks=1000,
    away_tasks=500,
)
LONG_RATES: dict[str, float] = {}
"""Inner rates of the long runs: those with the best validation accuracy in their search."""
_LONG_RUNS = long_runs(_LONG, LONG_RATES)
_LONG_SEEDS = {run.experiment.name: run.seeds for run in _LONG_RUNS}

_SEEDS = {
    "quick": range(2),
    "study": range(5),
    "search": range(100, 101),  # one that the study does not use
    "paper": range(5),
    "smoke": range(2),
}

# Table 1 and what looks into it
_CONVNET_5 = _FEW_SHOT.replace(name="convnet4-5shot", figure=TABLE1)
_RESNET: dict[str, Any] = {
    "network": "resnet12",
    "inner_rate": 0.05,
    "adapt_norm": False,
    "outer_clamp": 10.0,
    "rule_rate": 0.01,
}
_RESNET_5 = _CONVNET_5.replace(name="resnet12-5shot", width=8, **_RESNET)
_ON_CONVNETS = (*METHODS_OF_TABLE_1, *VARIANTS)
_ON_RESNETS = ("maml", "anil", "boil", "sparse-maml", "sparse-relu-maml")

RATES: dict[str, float] = {
    "convnet4-5shot-maml": 0.1,
    "convnet4-5shot-anil": 0.1,
    "convnet4-5shot-boil": 0.5,
    "convnet4-5shot-meta-sgd": 0.2,
    "convnet4-5shot-sparse-maml": 0.2,
    "convnet4-5shot-sparse-relu-maml": 0.02,
    "convnet4-5shot-sparse-maml-plus": 0.1,
    "convnet4-1shot-maml": 0.05,
    "convnet4-1shot-anil": 0.05,
    "convnet4-1shot-boil": 0.5,
    "convnet4-1shot-meta-sgd": 0.2,
    "convnet4-1shot-sparse-maml": 0.2,
    "convnet4-1shot-sparse-relu-maml": 0.05,
    "convnet4-1shot-sparse-maml-plus": 0.05,
    "resnet12-5shot-maml": 0.2,
    "resnet12-5shot-anil": 0.2,
    "resnet12-5shot-boil": 0.2,
    "resnet12-5shot-sparse-maml": 0.2,
    "resnet12-5shot-sparse-relu-maml": 0.05,
    "resnet12-1shot-maml": 0.05,
    "resnet12-1shot-anil": 0.2,
    "resnet12-1shot-boil": 0.05,
    "resnet12-1shot-sparse-maml": 0.2,
    "resnet12-1shot-sparse-relu-maml": 0.01,
}
"""Inner rates of Table 1: those with the best validation accuracy in the profile ``search``, once
all of a run's rates were tried."""


def _problems(base: Experiment, names: Mapping[str, dict[str, Any]]) -> list[Experiment]:
    return [base.replace(name=name, figure=BY_PROBLEM, **names[name]) for name in names]


_STUDY = Bases(
    columns=(
        _CONVNET_5,
        _CONVNET_5.replace(name="convnet4-1shot", shots=1),
        _RESNET_5,
        _RESNET_5.replace(name="resnet12-1shot", shots=1),
    ),
    methods={
        "convnet4-5shot": _ON_CONVNETS,
        "convnet4-1shot": METHODS_OF_TABLE_1,
        "resnet12-5shot": _ON_RESNETS,
        "resnet12-1shot": _ON_RESNETS,
    },
    second_order=("convnet4-5shot", "convnet4-1shot"),
    rates=RATES,
    own={"sparse-maml-plus": {"noise": 64}},
    elsewhere=("cub", "tieredimagenet", "cars"),
    longer={"updates": 3000, "eval_every": 500, "val_tasks": 100},
    # both methods at the inner rate of Figure 1 on Omniglot
    grey=(_FEW_SHOT.replace(name="grey-5shot", figure=TABLE2, data="omniglot", image_size=28),),
    # the same budget on other problems; miniImageNet with 5 shots is the base of Figure 2
    problems=[
        _FEW_SHOT,
        *_problems(
            _FEW_SHOT,
            {
                "miniimagenet-1shot": {"shots": 1},
                "omniglot-5shot": {"data": "omniglot"},
                "glyphs-5shot": {"data": "glyphs"},
                "cub-5shot": {"data": "cub"},
            },
        ),
    ],
)

_QUICK_5 = _QUICK_FIG2.replace(
    name="convnet4-5shot", figure=TABLE1, shots=5, val_tasks=10, test_tasks=20
)
_QUICK_BASES = Bases(
    columns=(
        _QUICK_5,
        _QUICK_5.replace(name="convnet4-1shot", shots=1),
        _QUICK_5.replace(name="resnet12-5shot", **_RESNET | {"width": 4, "updates": 20}),
    ),
    methods={
        "convnet4-5shot": METHODS_OF_TABLE_1,
        "convnet4-1shot": ("maml", "sparse-maml", "sparse-relu-maml"),
        "resnet12-5shot": ("anil", "sparse-maml", "sparse-relu-maml"),
    },
    own={"sparse-maml-plus": {"noise": 16}},
    problems=_problems(
        _QUICK_5,
        {"glyphs-5shot-5way": {}, "glyphs-5shot-3way": {"ways": 3}, "glyphs-1shot": {"shots": 1}},
    ),
)

_PAPER_5 = _PAPER.replace(
    name="convnet4-5shot", figure=TABLE1, inner_steps=35, inner_rate=0.25, mask_init="kaiming"
)
_PAPER_RESNET_5 = _PAPER_5.replace(
    name="resnet12-5shot", meta_batch=1, eval_every=1000, mask_init="uniform", **_RESNET
)
_PAPER_BASES = Bases(
    columns=(
        _PAPER_5,
        _PAPER_5.replace(name="convnet4-1shot", shots=1, inner_rate=0.1),
        _PAPER_RESNET_5,
        _PAPER_RESNET_5.replace(name="resnet12-1shot", shots=1),
    ),
    methods=_STUDY.methods,
    second_order=_STUDY.second_order,
    rates={"convnet4-5shot-sparse-maml-plus": 0.1, "resnet12-1shot-sparse-relu-maml": 0.01},
    own={
        # The released loss is a sum over two tasks, here it is a mean: under momentum the rate of
        # the weights is twice theirs.  That of the masks is theirs, whose derivative is 1/2.
        "sparse-maml-plus": {
            "outer": "nesterov",
            "meta_rate": 2e-3,
            "updates": 60_000,
            "as_released": True,
        },
        "masked-weights": {"as_released": True},
    },
    elsewhere=_STUDY.elsewhere,
    grey=(_PAPER.replace(name="grey-5shot", figure=TABLE2, data="omniglot", image_size=28),),
    problems=_problems(
        _PAPER,
        {
            "miniimagenet-5shot": {},
            "miniimagenet-1shot": {"shots": 1},
            "omniglot-5shot": {"data": "omniglot"},
            "glyphs-5shot": {"data": "glyphs"},
            "cub-5shot": {"data": "cub"},
        },
    ),
)


def _in_bf16(runs: list[Experiment]) -> list[Experiment]:
    """Return the runs again, with products in bfloat16."""
    return [r.replace(name=f"{r.name}-bf16", figure=SPEED, precision="bf16") for r in runs]


FEW_SHOT_FIGURES: dict[str, dict[str, list[Experiment]]] = {
    "quick": {
        FIG1: fig1(_QUICK),
        FIG2: fig2(_QUICK_FIG2, _QUICK_GRID),
        **after_figure_2(_QUICK_BASES),
    },
    "study": {
        FIG1: fig1(_OMNIGLOT) + fig1(_MINIIMAGENET),
        FIG2: fig2(_FEW_SHOT, _STUDY_GRID),
        **after_figure_2(_STUDY),
        SPEED: _in_bf16(fig2(_FEW_SHOT, Grid((0.1,), (5,), (32,)))),
        TRAINED_LONG: [run.experiment for run in _LONG_RUNS],
    },
    "search": {
        TRAINED_LONG: long_search(_LONG),
        TABLE1: [
            run
            for name, column in table1(_STUDY).items()
            for run in search(
                column,
                (0.01, 0.05, 0.2, 0.5) if "resnet" in name else (0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
            )
        ],
    },
    "paper": without_twins(
        {
            FIG1: fig1(_PAPER),
            FIG2: fig2(_PAPER_FIG2, _PAPER_GRID),
            **after_figure_2(_PAPER_BASES),
        }
    ),
    "smoke": {
        FIG1: fig1(_QUICK.replace(**_TO_SMOKE)),
        FIG2: fig2(_QUICK_FIG2.replace(**_TO_SMOKE), Grid((0.1, 0.5), (5,), (4,))),
        **{
            figure: [run.replace(**_TO_SMOKE) for run in runs]
            for figure, runs in after_figure_2(_QUICK_BASES).items()
        },
    },
}
"""The few-shot experiments that each figure shows, by profile; several may show the same one."""


def _with_streams(
    la_maml: list[continual.ContinualExperiment],
    osaka: Sequence[continual.OsakaExperiment] = (),
) -> dict[str, Sequence[Planned]]:
    found: dict[str, Sequence[Planned]] = {
        continual.LA_MAML: la_maml,
        continual.SPARSITY: continual.of_sparsity(la_maml),
        continual.OSAKA: osaka,
    }
    return {figure: runs for figure, runs in found.items() if runs}


CONTINUAL_FIGURES: dict[str, dict[str, Sequence[Planned]]] = {
    "quick": _with_streams(continual.quick(), continual.osaka_quick()),
    "study": _with_streams(continual.la_maml(), continual.osaka_study()),
    "search": {continual.LA_MAML: continual.search()},
    "paper": _with_streams(
        continual.la_maml("paper"),
        [e for ways in (5, 10) for e in continual.osaka("paper", ways)],
    ),
    "smoke": _with_streams(continual.smoke(), continual.osaka_quick("smoke")),
}
"""Those of the continual half."""

FIGURES: dict[str, dict[str, Sequence[Planned]]] = {
    profile: {**FEW_SHOT_FIGURES[profile], **CONTINUAL_FIGURES[profile]} for profile in PROFILES
}
"""All of them."""


def few_shot(profile: str, figure: str | None = None) -> list[Experiment]:
    """Return the few-shot experiments of a profile, as :func:`experiments` returns all."""
    return [e for e in experiments(profile, figure) if isinstance(e, Experiment)]


def experiments(profile: str, figure: str | None = None) -> list[Planned]:
    """Return the experiments of a profile."""
    if profile not in FIGURES:
        raise ValueError(f"unknown profile {profile!r}{closest(profile, PROFILES)}")
    figures = FIGURES[profile]
    if figure is not None and figure not in figures:
        raise ValueError(f"unknown figure {figure!r}{closest(figure, figures)}")
    chosen = figures.values() if figure is None else [figures[figure]]
    return list({e.name: e for group in chosen for e in group}.values())


def find(profile: str, name: str) -> Planned:
    """Return an experiment by name, which may end in changes such as ``+width=32``."""
    known = {e.name: e for e in experiments(profile)}
    base, changes = parts(name)
    if base not in known:
        raise ValueError(f"profile {profile!r} has no experiment {base!r}{closest(base, known)}")
    return _changed(known[base], read_changes(changes), known) if changes else known[base]


def _changed(e: Planned, change: Mapping[str, Any], known: Mapping[str, Planned]) -> Planned:
    """Return a changed experiment; whose masks it uses is changed alike."""
    donor = known.get(e.masks_from)
    return changed(e, change).replace(
        **({"masks_from": changed(donor, change).name} if donor else {})
    )


def with_changes(profile: str, figure: str, change: Mapping[str, Any]) -> list[Planned]:
    """Return the experiments of a figure with a change, in their order."""
    known = {e.name: e for e in experiments(profile)}
    return [_changed(e, change, known) for e in experiments(profile, figure)]


def chosen_runs(profile: str, lines: Iterable[str]) -> list[Run]:
    """Return runs that are listed as lines ``<experiment> <seed>``, changes in the names."""
    listed = [line.rsplit(" ", 1) for line in lines]
    return [_run(find(profile, name), int(seed)) for name, seed in listed]


def find_few_shot(profile: str, name: str) -> Experiment:
    """Return a few-shot experiment by name, as :func:`find` returns any."""
    found = find(profile, name)
    if not isinstance(found, Experiment):
        raise ValueError(f"{name!r} is no few-shot experiment")
    return found


def seeds(experiment: Planned) -> list[int]:
    """Return the seeds that a profile runs of an experiment."""
    streams = (continual.LA_MAML, continual.OSAKA)
    if experiment.profile == "quick" and experiment.figure in (TABLE1, FEATURES, *streams):
        return [0]  # the many methods are there to be looked at, not to be compared
    if experiment.profile == "paper" and experiment.figure == continual.OSAKA:
        return list(range(20))
    if experiment.profile == "study" and experiment.name in _LONG_SEEDS:
        return list(range(_LONG_SEEDS[experiment.name]))
    return list(_SEEDS[experiment.profile])


def record_path(experiment: Planned, seed: int) -> str:
    """Return where the record of a run stands, relative to the results' parent folder."""
    return f"results/{experiment.profile}/{experiment.name}/seed{seed}.json"


def waits(experiment: Planned) -> bool:
    """Return whether a setting of a run is still to be chosen by the profile ``search``."""
    if experiment.profile != "study":
        return False
    if isinstance(experiment, Experiment):
        column = "-".join(experiment.name.split("-")[:2])
        name = f"{column}-{SAME_RATE.get(experiment.method, experiment.method)}"
        searched = {e.name.rpartition("-rate")[0] for e in FEW_SHOT_FIGURES["search"][TABLE1]}
        return name in searched and name not in RATES
    if not (isinstance(experiment, continual.ContinualExperiment) and experiment.tuned):
        return False
    chosen_for = continual.chosen_for(experiment.learner)
    return f"{experiment.stream}-{chosen_for}" not in continual.CHOSEN


def _run(experiment: Planned, seed: int) -> Run:
    record = record_path(experiment, seed)
    cost = experiment.seconds()
    return Run(experiment.name, seed, experiment.figure, experiment.profile, record, cost)


def plan(profile: str, figure: str | None = None) -> list[Run]:
    """List the runs of a profile, seed by seed, so that early stops leave whole seeds."""
    chosen = [e for e in experiments(profile, figure) if not waits(e)]
    return sorted((_run(e, s) for e in chosen for s in seeds(e)), key=lambda r: r.seed)
