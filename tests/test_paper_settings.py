"""The paper's hyper-parameters, written out once more by hand.

From the authors' released code, but for Figures 1 and 2, whose base is inferred: their panels
coincide at K = 25, inner rate 0.1, 64 channels and masks that start half frozen.
"""

from typing import Any

import pytest

from reproduction.plan import few_shot, study

PROTOCOL: dict[str, Any] = {
    "ways": 5,
    "queries": 15,
    "image_size": 84,
    "width": 64,
    "mask_init": "uniform",
    "noise": 0,
    "as_released": False,
    "order": 1,
    "outer": "adam",
    "meta_rate": 0.001,
    "precision": "float32",
    "val_tasks": 500,
    "test_tasks": 500,
    "away_tasks": 500,
    "masks_from": "",
}
"""What all runs share."""

CONVNET = PROTOCOL | {
    "network": "convnet4",
    "rule_rate": 0.0075,
    "outer_clamp": 0.0,
    "adapt_norm": True,
    "updates": 40_000,  # 400 epochs of 100
    "eval_every": 500,
    "meta_batch": 2,
}
RESNET = PROTOCOL | {
    "network": "resnet12",
    "rule_rate": 0.01,
    "outer_clamp": 10.0,
    "adapt_norm": False,
    "updates": 40_000,  # 40 epochs of 1000
    "eval_every": 1000,
    "meta_batch": 1,
    "inner_steps": 35,
    "inner_rate": 0.05,
}
FIGURES_1_AND_2 = CONVNET | {
    "data": "miniimagenet",
    "shots": 5,
    "inner_steps": 25,
    "inner_rate": 0.1,
}
MINI = {"data": "miniimagenet"}
KAIMING = {"mask_init": "kaiming", "inner_steps": 35}
COLUMNS: dict[str, dict[str, Any]] = {
    "convnet4-5shot": CONVNET | MINI | KAIMING | {"shots": 5, "inner_rate": 0.25},
    "convnet4-1shot": CONVNET | MINI | KAIMING | {"shots": 1, "inner_rate": 0.1},
    "resnet12-5shot": RESNET | MINI | {"shots": 5},
    "resnet12-1shot": RESNET | MINI | {"shots": 1},
}
"""Columns of Table 1."""

METHODS = {
    "maml": 0.0,
    "anil": 0.0,
    "boil": 0.0,
    "meta-sgd": 0.0,
    "sparse-maml": 0.5,
    "sparse-relu-maml": 0.0,
    "sparse-maml-plus": 0.5,
    "relu-maml": 0.0,
    "exp-maml": 0.0,
    "masked-weights": 0.5,
}
"""Initial sparsity of each method."""

ON_RESNET = {"maml", "anil", "boil", "sparse-maml", "sparse-relu-maml"}
VARIANTS = {"relu-maml", "exp-maml", "masked-weights"}
RUN_IN = {
    "convnet4-5shot": METHODS.keys(),
    "convnet4-1shot": METHODS.keys() - VARIANTS,
    "resnet12-5shot": ON_RESNET,
    "resnet12-1shot": ON_RESNET,
}
PLUS = {
    "outer": "nesterov",
    "meta_rate": 0.002,  # 0.001 on a sum over two tasks
    "updates": 60_000,
    "inner_rate": 0.1,
    "as_released": True,
}
OWN: dict[str, dict[str, Any]] = {
    "resnet12-1shot-sparse-relu-maml": {"inner_rate": 0.01},
    "convnet4-5shot-sparse-maml-plus": PLUS,
    "convnet4-1shot-sparse-maml-plus": PLUS,
    "convnet4-5shot-masked-weights": {"as_released": True},
}
"""What a run has of its own: sparse-MAML+ has momentum and 600 epochs."""

TABLE = {
    f"{column}-{method}": COLUMNS[column]
    | {"method": method, "init_sparsity": METHODS[method]}
    | OWN.get(f"{column}-{method}", {})
    for column, methods in RUN_IN.items()
    for method in methods
} | {
    f"{column}-maml-second-order": COLUMNS[column]
    | {"method": "maml", "init_sparsity": 0.0, "order": 2}
    for column in ("convnet4-5shot", "convnet4-1shot")
}
HALF = {"method": "sparse-maml", "init_sparsity": 0.5}
MAML = {"method": "maml", "init_sparsity": 0.0}

FIGURE_1 = {"fig1-miniimagenet-maml": FIGURES_1_AND_2 | MAML} | {
    f"fig1-miniimagenet-sparse{percent}": FIGURES_1_AND_2
    | {"method": "sparse-maml", "init_sparsity": percent / 100}
    for percent in (0, 20, 25, 50, 75, 80, 100)
}
CHANGES: list[dict[str, Any]] = [
    {},
    *({"inner_rate": rate} for rate in (0.01, 0.02, 0.05, 0.2, 0.5, 0.75, 1.0)),
    *({"inner_steps": steps} for steps in (5, 15)),
    *({"width": width} for width in (32, 128, 256)),
]
"""What Figure 2 changes; without a change its runs are those of Figure 1."""
FIGURE_2 = [FIGURES_1_AND_2 | own | change for change in CHANGES for own in (MAML, HALF)]

PROBLEMS = [
    FIGURES_1_AND_2 | HALF | {"data": data, "shots": shots}
    for data, shots in (
        ("miniimagenet", 5),
        ("miniimagenet", 1),
        ("omniglot", 5),
        ("glyphs", 5),
        ("cub", 5),
    )
]
GREY = [FIGURES_1_AND_2 | own | {"data": "omniglot", "image_size": 28} for own in (MAML, HALF)]


def said(experiment, wanted):
    """What an experiment says of the parameters that are wanted."""
    return {name: experiment.parameters()[name] for name in wanted}


@pytest.mark.parametrize(
    ("figure", "wanted"),
    [(few_shot.TABLE1, TABLE), (few_shot.FIG1, FIGURE_1)],
    ids=["table 1", "figure 1"],
)
def test_runs_by_name(figure, wanted):
    found = {e.name: e for e in study.few_shot("paper", figure)}
    assert found.keys() == wanted.keys()
    for name, experiment in found.items():
        assert said(experiment, wanted[name]) == wanted[name], name


@pytest.mark.parametrize(
    ("figure", "wanted"),
    [(few_shot.FIG2, FIGURE_2), (few_shot.BY_PROBLEM, PROBLEMS)],
    ids=["figure 2", "problems"],
)
def test_runs_whatever_their_names(figure, wanted):
    found = [said(e, wanted[0]) for e in study.few_shot("paper", figure)]
    assert len(found) == len(wanted)
    for run in wanted:
        assert run in found


def test_trained_on_omniglot_for_table_2():
    """The paper's budget and network; the problem is not the paper's."""
    found = [e for e in study.few_shot("paper", few_shot.TABLE2) if e.data == "omniglot"]
    assert [said(e, GREY[0]) for e in found] == GREY
    for e in found:
        assert e.probes == ("on:fashion-mnist", "on:mnist", "on:glyphs")
    ours = [e for e in study.few_shot("study", few_shot.TABLE2) if e.data == "omniglot"]
    small = {"updates": 600, "meta_batch": 2, "width": 32, "inner_steps": 5, "queries": 5}
    for e, own in zip(ours, (MAML, HALF), strict=True):
        wanted = small | own | {"shots": 5, "image_size": 28, "inner_rate": 0.1}
        assert said(e, wanted) == wanted
        assert e.probes == ("on:fashion-mnist", "on:mnist", "on:glyphs")


def test_tested_elsewhere_is_every_method_of_table_2():
    found = {e.name for e in study.few_shot("paper", few_shot.TABLE2) if e.data != "omniglot"}
    methods = METHODS.keys() - VARIANTS
    assert found == {f"convnet4-{k}shot-{method}" for k in (1, 5) for method in methods}
    for name in found:
        probes = study.find_few_shot("paper", name).probes
        assert {p for p in probes if p.startswith("on:")} == {
            "on:cub",
            "on:tieredimagenet",
            "on:cars",
        }


def test_zero_noise_is_the_papers_1600_numbers():
    for shots in (1, 5):
        e = study.find_few_shot("paper", f"convnet4-{shots}shot-sparse-maml-plus")
        assert (e.noise, e.rule.noise) == (0, 1600)


def test_five_seeds():
    for e in study.few_shot("paper"):
        assert study.seeds(e) == [0, 1, 2, 3, 4]


def test_no_training_is_done_twice():
    """But for its name, figure and probes, no run with the paper's settings equals another."""
    runs = study.few_shot("paper")
    assert len({e.replace(name="any", figure="", probes=()) for e in runs}) == len(runs)
    names = {e.name for e in runs}
    assert {e.masks_from for e in runs} - {""} <= names
    shared = study.find("paper", "fig1-miniimagenet-sparse50")
    assert shared in study.few_shot("paper", few_shot.FIG2)
    assert shared in study.few_shot("paper", few_shot.BY_PROBLEM)
