"""What the pages say in words of the study's records is true of these records.

A row of ``data/sentences.tsv`` is a page, a part of a sentence on it, a query on the records in the
words of this module, and what it gives.  Numbers in tables and figures are generated and need none.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import pytest
import torch.nn.functional as F

from conftest import ROOT
from reproduction.bench import result as bench
from reproduction.claims import ledger
from reproduction.plan import streams as plan
from reproduction.plan import study
from reproduction.report import la_maml, la_maml_search, mask_overlap, sparsity_profiles
from reproduction.report import load_records as layers
from reproduction.report import osaka as osaka_report
from reproduction.report.curves import LAYERS
from reproduction.report.frame import by_experiment, by_seed, finished, frame
from reproduction.report.noise import noise_curve
from reproduction.report.plotkit import METHODS
from reproduction.runs.records import Record, load
from reproduction.runs.statistics import t_interval
from wheretolearn.continual.osaka.methods import LEARNERS
from wheretolearn.continual.osaka.metrics import BEFORE

PAPER = ROOT / "results" / "paper"


# --- queries


@functools.cache
def records() -> list[Record]:
    """All records of the study, once each."""
    found = load(ROOT / "results", study.experiments("study"))
    return list({(r["experiment"], r["seed"]): r for r in found}.values())


@functools.cache
def runs() -> dict[str, list[Record]]:
    return by_experiment(finished(records()))


@functools.cache
def table() -> pd.DataFrame:
    return frame(records())


@functools.cache
def searched() -> dict[str, Record]:
    return {r["experiment"]: r for r in la_maml_search.search_records()}


@functools.cache
def evidence(number: str) -> pd.DataFrame:
    return ledger.findings(records(), number)[0].evidence.set_index("statistic").round(1)


@functools.cache
def reported() -> dict:
    return la_maml.reported(PAPER)


def n(name: str, metric: str = "test_accuracy") -> pd.Series:
    """A number of the runs of an experiment, by seed."""
    return by_seed(table(), name, metric)


def per(name: str, value: Callable[[Record], float]) -> pd.Series:
    """A number of the records of an experiment, by seed."""
    return pd.Series({r["seed"]: value(r) for r in runs()[name]}, dtype=float)


def less(a: str, b: str, metric: str = "test_accuracy") -> pd.Series:
    return (n(a, metric) - n(b, metric)).dropna()


def ci(values: Iterable[float], digits: int = 1) -> list[float]:
    """Mean and interval, rounded."""
    return [round(float(v), digits) + 0.0 for v in t_interval(list(values))[:3]]


def side(values: Iterable[float]) -> int:
    """Whether the interval lies above zero, below it, or holds it."""
    _, low, high, _ = t_interval(list(values))
    return int(low > 0) - int(high < 0)


def mean(values: Iterable[float], digits: int = 0) -> float:
    return round(float(np.mean(list(values))), digits) + 0.0


def shares(name: str) -> list[float]:
    """Mean sparsity of the five layers' kernels, percent."""
    return [float(n(name, f"sparsity/{layer}").mean()) for layer in LAYERS]


def least(name: str) -> str:
    return LAYERS[int(np.argmin(shares(name)))]


def most(name: str) -> str:
    return LAYERS[int(np.argmax(shares(name)))]


def ordered(name: str) -> bool:
    """Whether each layer is sparser than the next, interval and all."""
    each = [n(name, f"sparsity/{layer}") for layer in LAYERS]
    return all(side(a - b) > 0 for a, b in itertools.pairwise(each))


def block(name: str, *kernels: str) -> float:
    """The frozen share of some kernels of ResNet-12 over all runs."""
    of = [(r, f"{k}.weight") for r in runs()[name] for k in kernels]
    frozen = sum(r["curves"]["frozen"][k][-1] for r, k in of)
    return frozen / sum(r["tensors"][k] for r, k in of)


def blocks(name: str) -> list[float]:
    parts = ("conv1", "conv2", "conv3", "shortcut")
    return [block(name, *(f"layer{k}.{p}" for p in parts)) for k in (1, 2, 3, 4)]


CONV, FIG2 = "convnet4-5shot", "fig2-miniimagenet-sparse-maml"
SPARSE, MAML, RELU = (f"{CONV}-{m}" for m in ("sparse-maml", "maml", "sparse-relu-maml"))
RESNET = [f"resnet12-5shot-{m}" for m in ("sparse-maml", "sparse-relu-maml")]


def masks(how: str) -> pd.Series:
    """What weights lose under other masks than their own."""
    return n(SPARSE, "masks/own") - n(SPARSE, f"masks/{how}")


def cub(method: str, shots: int) -> pd.Series:
    return less(f"convnet4-{shots}shot-{method}", f"convnet4-{shots}shot-maml", "on:cub")


def home(method: str, shots: int) -> pd.Series:
    return less(f"convnet4-{shots}shot-{method}", f"convnet4-{shots}shot-maml")


def of_cub() -> list[tuple[str, int]]:
    names = [(m, k) for m in METHODS if m != "maml" for k in (1, 5)]
    return [x for x in names if f"convnet4-{x[1]}shot-{x[0]}" in runs() and len(cub(*x))]


def pairs(problems: bool, start: str | None, layer: str = "all") -> pd.DataFrame:
    lines = mask_overlap.pairs(layers.study_records("sparsity_by_problem"))
    lines = lines[lines["layer"] == layer]
    if start:
        lines = lines[(lines["start"] == start) & (lines["a"] != lines["b"])]
        return lines[lines["a"].str.startswith("omniglot") != problems]
    same = lines["a"] == lines["b"]
    return lines[(lines["seed_a"] != lines["seed_b"]) & (same != problems)]


def s_gain(stream: str, other: str, metric: str, ours: str = "sparse-la-maml-tuned") -> pd.Series:
    return less(f"{stream}-{ours}", f"{stream}-{other}", metric)


def on_streams(query: Callable[[str], object]) -> list:
    return [query(stream) for stream in plan.STREAMS]


ROT, PERM, MANY = plan.STREAMS


def claim_9(metric: str, stream: str) -> list[float]:
    row = evidence("9").loc[f"{metric} on {plan.TITLES[stream]}: sparse-La-MAML − La-MAML"]
    return [row[c] for c in ("mean", "low", "high")]


def behind_open(form: str, stream: str) -> float:
    """How much less the best line retains that starts half frozen than one that starts open."""
    best: dict[float, float] = {}
    for i, line in enumerate(plan.grid(form, stream)):
        ra = 100 * searched()[f"{stream}-{form}-{i}"]["final"]["ra"]
        best[line["init_sparsity"]] = max(ra, best.get(line["init_sparsity"], 0))
    return round(best[0.0] - best[0.5], 1)


def at_edge(learner: str, setting: str, end: Callable = min) -> list[str]:
    """The streams on which the search chose the end of a grid."""
    return [
        s
        for s in plan.STREAMS
        for lines in [plan.grid(learner, s)]
        if lines[plan.CHOSEN[f"{s}-{learner}"]][setting] == end(x[setting] for x in lines)
    ]


def frozen(name: str) -> list[float]:
    """Frozen shares at the end: of the three kernels, and of all weights."""
    group = runs()[name]
    each = (*la_maml.kernels(group[0]), None)
    return [float(np.mean([la_maml.frozen_share(r, k)[-1] for r in group])) for k in each]


def explained() -> dict[tuple[str, str], pd.Series]:
    """Gains in BTI from other weights at the start, where they are above zero."""
    keys = itertools.product(("online", "ewc"), plan.STREAMS)
    gains = {(x, s): s_gain(s, x, "bti", f"{x}-xavier") for x, s in keys}
    return {k: g for k, g in gains.items() if side(g) > 0}


def distances(learner: str) -> list[float]:
    """Reported standard deviations of RA from the reported mean."""
    each = [(s, runs().get(f"{s}-{learner}")) for s in plan.STREAMS]
    found = [la_maml.distance(g, reported()[learner, s]["ra"]) for s, g in each if g]
    return [round(d, 1) for d in found if d is not None]


def missing(learner: str, metric: str = "ra") -> list[float]:
    """Reported less ours, on streams with runs."""
    return [
        round(float(reported()[learner, s][metric].mean - n(f"{s}-{learner}", metric).mean()), 1)
        for s in plan.STREAMS
        if f"{s}-{learner}" in runs()
    ]


def o(alpha: int, a: str, b: str, part: slice | None = None, ways: int = 5) -> pd.Series:
    """The lead of a learner of OSAKA over another, in all or in a part of the stream."""
    groups = [runs()[f"osaka{alpha}-{ways}way-{m}"] for m in (a, b)]
    mine, its = (pd.Series(osaka_report.accuracies(g, part or slice(None))) for g in groups)
    assert set(mine.index) == set(its.index) == set(range(5))
    return mine - its


def on_source(alpha: int, a: str, b: str, source: str) -> pd.Series:
    mine, its = (
        per(f"osaka{alpha}-5way-{m}", lambda r: 100 * r["final"]["by_source"][source])
        for m in (a, b)
    )
    return mine - its


def setting(alpha: int, learner: str, name: str) -> float:
    return runs()[f"osaka{alpha}-5way-{learner}"][0]["parameters"]["settings"][name]


def numbers(alpha: int, learner: str) -> np.ndarray:
    """What runs say of each convolution's kernel last: its rate, or its gate."""
    kernels = [f"layer{i}.conv.weight" for i in (1, 2, 3, 4)]
    group = runs()[f"osaka{alpha}-5way-{learner}"]
    return np.array([[r["curves"]["numbers"][k][-1] for k in kernels] for r in group])


def shut(learner: str) -> np.ndarray:
    """Shares of the five kernels that are shut at the end at 0.90, percent, by run."""
    names = list(osaka_report.TENSORS)[:5]
    return np.array(
        [
            [osaka_report.over_time(r, "frozen", k)[1][-1] for k in names]
            for r in runs()[f"osaka90-5way-{learner}"]
        ]
    )


def same_runs(alpha: int, ways: int = 5) -> int:
    """How many pairs of sparse-C-MAML and C-MAML + PAP are one computation."""
    a, b = (runs()[f"osaka{alpha}-{ways}way-{m}"] for m in ("sparse-c-maml", "c-maml-pap"))
    return sum(x["curves"]["numbers"] == y["curves"]["numbers"] for x, y in zip(a, b, strict=True))


def raised(name: str) -> list[float]:
    """What the second ten epochs added to the best validation: least and most."""
    courses = [r["pretraining"]["val_accuracy"] for r in runs()[name] if r["pretraining"]]
    gains = [100 * (max(v) - max(v[:10])) for v in courses if len(v) == 20]
    return [round(min(gains), 1), round(max(gains), 1)] if gains else []


def after(alpha: int, learner: str, steps: int) -> np.ndarray:
    """Accuracy some steps after a switch, by run."""
    group = runs()[f"osaka{alpha}-5way-{learner}"]
    return np.array([osaka_report.around_switches(r)[1][BEFORE + steps] for r in group])


def speedups(network: str) -> list[float]:
    cases = bench.latest(ROOT / "results" / "bench").cases
    each = [c for case in cases if case.title.startswith(network) for c in case.contenders]
    found = [c.speedup.median for c in each if c.title == "this library" and c.speedup]
    return [round(min(found), 1), round(max(found), 1)]


def fig2_noise() -> float:
    e = study.find_few_shot("study", FIG2)
    return noise_curve(50, e.updates, e.rule_rate).mean[-1]


def noise_zeros(start: float) -> int:
    e = study.find_few_shot("study", RELU)
    return round(float(sparsity_profiles.noise_rates(start, e.updates, e.rule_rate).zero.mean[-1]))


def added(name: str) -> list[float]:
    return ci(n(name, "taught"))


def papers() -> list[float]:
    """The paper's gains like for like: at K = 5, 15 and 25, and at K = 25 with each at its best."""
    steps = pd.read_csv(PAPER / "fig2_steps.csv").set_index("inner_steps")
    rates = pd.read_csv(PAPER / "fig2_inner_rate.csv").set_index("inner_rate")
    gains = (steps["sparse_maml_accuracy"] - steps["maml_accuracy"]).round(1)
    at_25 = rates.loc[0.1, "sparse_maml_accuracy"] - rates.loc[0.1, "maml_accuracy"]
    best = rates["sparse_maml_accuracy"].max() - rates["maml_accuracy"].max()
    return [gains[5], gains[15], round(at_25, 1), round(best, 1)]


# --- sentences

PHOTO = [FIG2 + end for end in ("", "-rate0.01", "-width8", "-width16", "-steps10")]
ORDERED = [(d, p) for d in ("omniglot", "miniimagenet") for p in (50, 75, 80)]
TUNED = ("la-maml-tuned", "sparse-la-maml-tuned")
PAP = ("sparse-c-maml", "c-maml-pap")
EARLY, LATE = slice(2_000), slice(2_000, None)
ANEW = ("c-maml", "c-maml-zero", "c-maml-um", "c-maml-pre", "maml", "sparse-maml", "anil")
ADAPTING = [m for m in LEARNERS if m not in (*ANEW, "fine-tuning") and "online" not in m]


def slow() -> list[list[float]]:
    return [
        raised(f"osaka{x}") for x in ("98-5way-maml", "98-5way-fine-tuning", "90-5way-fine-tuning")
    ]


def rows() -> list[list[str]]:
    lines = (ROOT / "tests/data/sentences.tsv").read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines[1:]]


@pytest.mark.parametrize(("page", "sentence", "query", "expected"), rows())
def test_what_a_page_says_is_true(page, sentence, query, expected):
    cells = json.loads((ROOT / "notebooks" / f"{page}.ipynb").read_text(encoding="utf-8"))["cells"]
    assert any(sentence in "".join(c["source"]) for c in cells), "the page no longer says this"
    assert eval(query, globals()) == eval(expected, globals())


@pytest.mark.slow
def test_threshold_of_three_is_out_of_reach(data_root):
    """With 64 channels no loss of a hundred steps is above 2, whatever the scale of images."""
    (selected,) = (e for e in plan.osaka_study() if e.name == "osaka98-5way-c-maml")

    def losses(width: int, scale: int = 1) -> list[float]:
        experiment = selected.replace(width=width)
        running = experiment.start(0, data_root)
        found = []
        for step in range(100):
            batch = running.stream[step]
            batch = batch._replace(inputs=scale * batch.inputs)
            outputs = running.learner.predict(batch.inputs)
            found.append(float(F.cross_entropy(outputs, batch.targets)))
            running.learner.observe(batch)
        return found

    assert losses(16, scale=255) == pytest.approx(losses(16), abs=0.01)
    assert max(losses(64)) < 2


def test_the_book_is_short() -> None:
    """Prose without tables, code and mathematics set apart: words in all, and in a paragraph."""
    words, long = 0, []
    for path in sorted([*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("book/*.md")]):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            cells = json.loads(text)["cells"]
            text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
        text = re.sub(r"```.*?```|\$\$.*?\$\$", "", text, flags=re.DOTALL)
        text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("|"))
        words += len(text.split())
        parts = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", text)
        long += [f"{path.name}: {part[:60]}" for part in parts if len(part.split()) > 90]
    assert long == []
    assert words <= 22_000
