"""Claims 11 and 12: longer inner loops, what a mask's pattern adds, and whether features move."""

from __future__ import annotations

import pandas as pd

from ..plan import few_shot, study
from .claim import (
    SHOWN,
    Claim,
    Runs,
    Statistic,
    Verdict,
    above,
    against,
    difference,
    every,
    never,
    not_above,
)
from .claims_5_and_6 import AFTER, names, of_table1


def _longer_loops(longer: bool = False) -> Claim:
    of, _, number, said, titled = names(longer)
    runs = of_table1(of, [5], "sparse-maml", "maml")
    (k,) = {e.inner_steps for e in runs}

    def loss(runs: Runs, method: str) -> pd.Series:
        name = f"{of}-5shot-{method}"
        return runs(name, f"steps/{k}") - runs(name, f"steps/{10 * k}")

    def more(runs: Runs) -> pd.Series:
        return loss(runs, "maml") - loss(runs, "sparse-maml")

    return Claim(
        f"11{number}",
        f"Longer inner loops without overfitting{said}",
        f"Longer inner loops without overfitting{titled}",
        few_shot.TABLE1 if longer else few_shot.LONGER,
        "miniImageNet",
        runs,
        (
            Statistic("loss of MAML − loss of sparse-MAML", more, above(0), "difference"),
            Statistic("loss of sparse-MAML", lambda runs: loss(runs, "sparse-maml"), not_above(1)),
            Statistic("loss of MAML", lambda runs: loss(runs, "maml"), SHOWN),
        ),
        Verdict("the first two hold", every(), "only the first holds", every("difference")),
        against("sparse-MAML", "-sparse-maml"),
        "loss of MAML − loss of sparse-MAML",
        late=AFTER if longer else "",
        together=True,
        answer="tested with more steps",
        baseline=f"{of}-5shot-maml",
    )


def _pattern_and_density() -> Claim:
    own, shuffled = (f"convnet4-5shot-sparse-maml-{how}-masks" for how in ("own", "shuffled"))
    return Claim(
        "12a",
        "The pattern of the mask adds to its density",
        "The pattern of the mask adds to its density",
        few_shot.FEATURES,
        "miniImageNet",
        [e for e in study.few_shot("study", few_shot.FEATURES) if e.name in (own, shuffled)],
        [Statistic("own masks − shuffled within tensors", difference(own, shuffled), above(0))],
        Verdict("it holds", every(), "never", never),
        against("training under the learned masks as they are", own),
        "own masks − shuffled within tensors",
        baseline=shuffled,
    )


def _features_move_less(longer: bool = False) -> Claim:
    of, _, number, said, titled = names(longer)
    sparse, maml = (f"{of}-5shot-{method}" for method in ("sparse-maml", "maml"))
    return Claim(
        f"12b{number}",
        f"Features move less under sparse-MAML than under MAML{said}",
        f"Features move less under sparse-MAML than under MAML{titled}",
        few_shot.TABLE1 if longer else few_shot.FEATURES,
        "miniImageNet",
        of_table1(of, [5], "sparse-maml", "maml"),
        [
            Statistic(
                "similarity, sparse-MAML − MAML",
                difference(sparse, maml, "movement/layer4"),
                above(0),
            )
        ],
        Verdict("it holds", every(), "never", never),
        against("sparse-MAML", "-sparse-maml"),
        "similarity, sparse-MAML − MAML",
        "CKA × 100",
        late=AFTER if longer else "",
        answer="with features compared",
        baseline=maml,
    )


CLAIMS = [
    _longer_loops(),
    _longer_loops(longer=True),
    _pattern_and_density(),
    _features_move_less(),
    _features_move_less(longer=True),
]
