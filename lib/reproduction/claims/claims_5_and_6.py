"""Claims 5 and 6, Tables 1 and 2: the order of methods, and gains across domains."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd

from ..plan import few_shot, study
from ..runs.experiment import Experiment
from .claim import (
    SHOWN,
    Claim,
    Line,
    Runs,
    Statistic,
    Verdict,
    above,
    against,
    all_of,
    difference,
    every,
    none_below,
    some,
    within,
)

LITTLE = 2
"""Claim 5c: percentage points within which a difference counts as little."""

AFTER = "stated when the verdict of the shorter runs was known"
"""Of tests on runs that were trained longer."""


def of_table1(of: str, shots: Iterable[int], *methods: str) -> list[Experiment]:
    """Return the runs of Table 1 of some methods whose names begin with `of`."""
    wanted = {f"{of}-{n}shot-{method}" for n in shots for method in methods}
    return [e for e in study.few_shot("study", few_shot.TABLE1) if e.name in wanted]


def names(longer: bool) -> tuple[str, tuple[int, ...], str, str, str]:
    """Return what tells a claim on longer runs apart: how names begin, shots, and its words."""
    if longer:
        more = "; trained five times as long", ", trained longer"
        return few_shot.LONGER_RUNS, (5,), ", longer", *more
    return "convnet4", (1, 5), "", "", ""


def convnet4_order(longer: bool = False) -> Claim:
    """Claim 5 on ConvNet-4; on runs that were trained longer, with 5 shots only."""
    of, shots, number, said, titled = names(longer)
    order = ("sparse-maml", "boil", "maml", "anil")
    pairs = list(itertools.pairwise(order))
    gain = "sparse-maml − maml holds"
    return Claim(
        f"5a{number}",
        f"ConvNet-4: sparse-MAML > BOIL > MAML > ANIL{said}",
        f"ConvNet-4: sparse-MAML > BOIL > MAML > ANIL{titled}",
        few_shot.TABLE1,
        "miniImageNet",
        of_table1(of, shots, *order),
        (
            *(_line(of, n, a, b, "steps") for n in shots for a, b in pairs),
            *(_line(of, n, "sparse-maml", "maml", "gains") for n in shots),
            *(_line(of, n, order[0], order[-1])._replace(needed=SHOWN) for n in shots),
        ),
        Verdict(
            f"the first {len(shots) * len(pairs)} hold, the differences between neighbours in the "
            "order",
            every("steps"),
            gain
            if longer
            else f"{gain} for one number of shots and has its interval below 0 for none",
            all_of(some("gains"), none_below("gains")),
        ),
        against("sparse-MAML", "-sparse-maml"),
        f"{of}-5shot: sparse-maml − maml",
        paper=_like_for_like,
        late=AFTER if longer else "",
        baseline=f"{of}-5shot-maml",
    )


def _line(of: str, shots: int, a: str, b: str, part: str = "") -> Statistic:
    name = f"{of}-{shots}shot"
    return Statistic(f"{name}: {a} − {b}", difference(f"{name}-{a}", f"{name}-{b}"), above(0), part)


def _resnet12_best() -> Claim:
    others = ("maml", "anil", "boil", "sparse-maml")
    return Claim(
        "5b",
        "ResNet-12: sparse-ReLU-MAML is best",
        "ResNet-12: sparse-ReLU-MAML is best",
        few_shot.TABLE1,
        "miniImageNet",
        of_table1("resnet12", (1, 5), "sparse-relu-maml", *others),
        [
            _line("resnet12", n, "sparse-relu-maml", other, "maml" if other == "maml" else "")
            for n in (1, 5)
            for other in others
        ],
        Verdict(
            "all hold",
            every(),
            "the line against maml holds for one number of shots, and no line has its interval "
            "below 0",
            all_of(some("maml"), none_below()),
        ),
        against("sparse-ReLU-MAML", "-sparse-relu-maml"),
        "resnet12-5shot: sparse-relu-maml − maml",
        paper=_of_resnet12("sparse-ReLU-MAML", "MAML"),
        baseline="resnet12-5shot-maml",
    )


def _resnet12_masks() -> Claim:
    def none_outside(lines: Sequence[Line]) -> bool:
        return not any(x.interval.low > LITTLE or x.interval.high < -LITTLE for x in lines)

    return Claim(
        "5c",
        "ResNet-12: binary masks give little over ANIL (a test stated after its runs)",
        "ResNet-12: binary masks give little over ANIL",
        few_shot.TABLE1,
        "miniImageNet",
        of_table1("resnet12", (1, 5), "sparse-maml", "anil"),
        [
            _line("resnet12", n, "sparse-maml", "anil")._replace(needed=within(LITTLE))
            for n in (1, 5)
        ],
        Verdict(
            "both hold",
            every(),
            f"one holds and no interval lies wholly outside of ±{LITTLE}",
            all_of(some(), none_outside),
        ),
        against("sparse-MAML", "-sparse-maml"),
        "resnet12-5shot: sparse-maml − anil",
        paper=_of_resnet12("sparse-MAML", "ANIL"),
        late="stated when its runs were known",
        baseline="resnet12-5shot-anil",
    )


def cross_domain(longer: bool = False) -> Claim:
    """Claim 6: the gain on CUB at 5 shots, alone and against the gain at home."""
    of, shots, number, said, titled = names(longer)

    def gain(runs: Runs, shots: int, metric: str) -> pd.Series:
        name = f"{of}-{shots}shot"
        return difference(f"{name}-sparse-maml", f"{name}-maml", metric)(runs)

    def away(runs: Runs) -> pd.Series:
        return gain(runs, 5, "on:cub")

    def more(runs: Runs) -> pd.Series:
        return away(runs) - gain(runs, 5, "test_accuracy")

    def with_one(runs: Runs) -> pd.Series:
        return away(runs) - gain(runs, 1, "on:cub")

    statistics = [
        Statistic("gain on CUB, 5 shots", away, above(0), "gain"),
        Statistic("gain on CUB − gain on miniImageNet", more, above(0)),
        Statistic("gain on CUB, 5 shots − 1 shot", with_one, SHOWN),
    ]
    return Claim(
        f"6{number}",
        "Across domains gains are largest at 5 shots on CUB and Cars (CUB alone is tested)" + said,
        f"Across domains gains over MAML are largest at 5 shots on CUB and Cars{titled}",
        few_shot.TABLE1 if longer else few_shot.TABLE2,
        "miniImageNet → CUB (2010)",
        of_table1(of, shots, "sparse-maml", "maml"),
        statistics[: 2 if longer else 3],  # with one shot nothing was trained longer
        Verdict("the first two hold", every(), "only the first holds", every("gain")),
        against("sparse-MAML", "-sparse-maml"),
        "gain on CUB, 5 shots",  # Table 2 compares with another paper's MAML
        late=AFTER if longer else "",
        together=True,
        answer="tested on CUB",
        baseline=f"{of}-5shot-maml",
        beside={f"{of}-1shot-{method}" for method in ("sparse-maml", "maml")},
    )


def _of_resnet12(method: str, reference: str) -> Callable[[Path], float]:
    """Return a difference in ResNet-12's column of Table 1; ConvNet-4's has another's MAML."""

    def published(folder: Path) -> float:
        numbers = pd.read_csv(folder / "table1.csv").set_index(["network", "shots", "method"])
        accuracy = numbers["accuracy"]
        return float(accuracy["ResNet-12", 5, method] - accuracy["ResNet-12", 5, reference])

    return published


def _like_for_like(published: Path, steps: int = 5) -> float:
    """Return the gain of sparse-MAML over the paper's own MAML, both at rate 0.1 (Figure 2)."""
    row = pd.read_csv(published / "fig2_steps.csv").set_index("inner_steps").loc[steps]
    return float(row["sparse_maml_accuracy"] - row["maml_accuracy"])


CLAIMS = [
    convnet4_order(),
    _resnet12_best(),
    _resnet12_masks(),
    cross_domain(),
    convnet4_order(longer=True),
    cross_domain(longer=True),
]
