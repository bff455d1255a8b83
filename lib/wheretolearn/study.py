"""What is run: the experiments behind each figure, by profile.

``quick``   embedded data, minutes on a laptop; what ``make book`` trains
``study``   real data on two CPU cores, five seeds; its records come with the project
``paper``   the paper's hyper-parameters, for a GPU
``smoke``   a few updates, for tests
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .experiments import Experiment
from .few_shot import (
    BY_PROBLEM,
    FEATURES,
    FIG1,
    FIG2,
    LEARNED_RATES,
    LONGER,
    METHODS_OF_TABLE_1,
    RESNET12,
    TABLE1,
    TABLE2,
    VARIANTS,
    Grid,
    exact_maml,
    fig1,
    fig2,
    of_method,
    table1,
    with_masks_of,
)
from .suggestions import closest

PROFILES = ("quick", "study", "paper", "smoke")
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
    updates=150,
    eval_every=15,
    val_tasks=20,
    test_tasks=100,
)

_QUICK_FIG2 = _QUICK.replace(name="fig2-glyphs", figure=FIG2, updates=60, eval_every=20)
_QUICK_GRID = Grid(inner_rate=(0.1, 0.5, 1.0), inner_steps=(1, 5), width=(8, 16))
_TO_SMOKE: dict[str, Any] = {
    "profile": "smoke",
    "width": 4,
    "updates": 4,
    "eval_every": 2,
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

_PAPER = Experiment(name="fig1-miniimagenet", figure=FIG1)
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
_STUDY_GRID = Grid(
    inner_rate=(0.01, 0.1, 0.2, 0.5, 1.0), inner_steps=(1, 5, 15), width=(16, 32, 64)
)

_SEEDS = {"quick": 2, "study": 5, "paper": 5, "smoke": 2}

# Table 1.  Inner rates are to be chosen on validation classes ("Decided beforehand"); until that
# search is made, each method has the base's.
_CONVNET_5 = _FEW_SHOT.replace(name="convnet4-5shot", figure=TABLE1)
_CONVNET_1 = _CONVNET_5.replace(name="convnet4-1shot", shots=1)
_RESNET_5 = _CONVNET_5.replace(
    name="resnet12-5shot",
    network="resnet12",
    width=8,
    inner_rate=0.05,
    adapt_norm=False,
    outer_clamp=10.0,
    rule_rate=0.01,
)
_RESNET_1 = _RESNET_5.replace(name="resnet12-1shot", shots=1)
_MOVED = ("steps", "movement", "interference", "on:cub")
_PROBES = {
    **dict.fromkeys(("maml", "anil", "boil", "sparse-relu-maml"), _MOVED),
    "sparse-maml": (*_MOVED, "masks"),
    "meta-sgd": ("on:cub",),
    "sparse-maml-plus": ("on:cub",),
}
_IN_TABLE_1 = (*METHODS_OF_TABLE_1, *VARIANTS)
_IN_RESNET_COLUMN = ("maml", "anil", "boil", "sparse-maml", "sparse-relu-maml")


_FIVE_SHOT = {e.method: e for e in table1(_CONVNET_5, {}, _IN_TABLE_1, _PROBES, noise=64)}
_ONE_SHOT = {e.method: e for e in table1(_CONVNET_1, {}, METHODS_OF_TABLE_1, _PROBES, noise=64)}
_RESNETS = [
    *table1(_RESNET_5, {}, _IN_RESNET_COLUMN, {}),
    *table1(_RESNET_1, {}, _IN_RESNET_COLUMN, {}),
]

# The same budget on other problems; miniImageNet with 5 shots is the base of Figure 2.
_CHANGES: dict[str, dict[str, Any]] = {
    "miniimagenet-1shot": {"shots": 1},
    "cub-5shot": {"data": "cub"},
    "omniglot-5shot": {"data": "omniglot"},
    "glyphs-5shot": {"data": "glyphs"},
}
_OTHER_PROBLEMS = {
    name: of_method(_FEW_SHOT.replace(name=name, figure=BY_PROBLEM, **changes), "sparse-maml")
    for name, changes in _CHANGES.items()
}


def _in_bf16(runs: list[Experiment]) -> list[Experiment]:
    """Return the runs again, with products in bfloat16."""
    return [r.replace(name=f"{r.name}-bf16", figure=SPEED, precision="bf16") for r in runs]


FIGURES: dict[str, dict[str, list[Experiment]]] = {
    "quick": {FIG1: fig1(_QUICK), FIG2: fig2(_QUICK_FIG2, _QUICK_GRID)},
    "study": {
        FIG1: fig1(_OMNIGLOT) + fig1(_MINIIMAGENET),
        FIG2: fig2(_FEW_SHOT, _STUDY_GRID),
        TABLE1: [
            *_FIVE_SHOT.values(),
            *_ONE_SHOT.values(),
            *(exact_maml(column["maml"]) for column in (_FIVE_SHOT, _ONE_SHOT)),
            *_RESNETS,
        ],
        TABLE2: [e for e in (*_FIVE_SHOT.values(), *_ONE_SHOT.values()) if "on:cub" in e.probes],
        BY_PROBLEM: [of_method(_FEW_SHOT, "sparse-maml"), *_OTHER_PROBLEMS.values()],
        LEARNED_RATES: [
            column[method]
            for column in (_FIVE_SHOT, _ONE_SHOT)
            for method in ("sparse-relu-maml", "meta-sgd", "sparse-maml")
        ],
        RESNET12: [e for e in _RESNETS if e.method.startswith("sparse")],
        LONGER: [e for e in (*_FIVE_SHOT.values(), *_ONE_SHOT.values()) if "steps" in e.probes],
        FEATURES: [
            *(e for e in _FIVE_SHOT.values() if "movement" in e.probes),
            _OTHER_PROBLEMS["cub-5shot"],
            *with_masks_of(_FIVE_SHOT["sparse-maml"], _OTHER_PROBLEMS["cub-5shot"]),
        ],
        SPEED: _in_bf16(fig2(_FEW_SHOT, Grid((0.1,), (5,), (32,)))),
    },
    "paper": {FIG1: fig1(_PAPER), FIG2: fig2(_PAPER_FIG2, _PAPER_GRID)},
    "smoke": {
        FIG1: fig1(_QUICK.replace(**_TO_SMOKE)),
        FIG2: fig2(_QUICK_FIG2.replace(**_TO_SMOKE), Grid((0.1, 0.5), (5,), (4,))),
    },
}
"""The experiments that each figure shows, by profile; several may show the same one."""


def experiments(profile: str, figure: str | None = None) -> list[Experiment]:
    """Return the experiments of a profile.

    Parameters
    ----------
    profile : str
        One of :data:`PROFILES`.
    figure : str, optional
        Only those that this figure shows.

    Returns
    -------
    list of Experiment
        Each once.

    Raises
    ------
    ValueError
        For an unknown profile or figure; the nearest known name is suggested.
    """
    if profile not in FIGURES:
        raise ValueError(f"unknown profile {profile!r}{closest(profile, PROFILES)}")
    figures = FIGURES[profile]
    if figure is not None and figure not in figures:
        raise ValueError(f"unknown figure {figure!r}{closest(figure, figures)}")
    chosen = figures.values() if figure is None else [figures[figure]]
    return list({e.name: e for group in chosen for e in group}.values())


def find(profile: str, name: str) -> Experiment:
    """Return an experiment by name.

    Raises
    ------
    ValueError
        For an unknown name; the nearest known one is suggested.
    """
    known = {e.name: e for e in experiments(profile)}
    if name not in known:
        raise ValueError(f"profile {profile!r} has no experiment {name!r}{closest(name, known)}")
    return known[name]


def seeds(experiment: Experiment) -> list[int]:
    """Return the seeds that the study runs of an experiment."""
    return list(range(_SEEDS[experiment.profile]))


def record_path(experiment: Experiment, seed: int) -> str:
    """Return where the record of a run stands, relative to the results' parent folder."""
    return f"results/{experiment.profile}/{experiment.name}/seed{seed}.json"


def plan(profile: str, figure: str | None = None) -> list[Run]:
    """List the runs of a profile, seed by seed, so that early stops leave whole seeds.

    Parameters
    ----------
    profile : str
        One of :data:`PROFILES`.
    figure : str, optional
        Only those of this figure.

    Returns
    -------
    list of Run
    """
    chosen = [(e, e.seconds()) for e in experiments(profile, figure)]
    runs = [
        Run(e.name, s, e.figure, profile, record_path(e, s), cost)
        for e, cost in chosen
        for s in seeds(e)
    ]
    return sorted(runs, key=lambda r: r.seed)
