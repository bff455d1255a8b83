"""Claims 5 to 8, 11 and 12: the tests that the chapter "Decided beforehand" states.

Each test takes records of any experiments and picks those that it needs, whose names begin with
`of`: ``convnet4``, ``resnet12``, or ``longer`` for the runs of ConvNet-4 that were trained longer
(:func:`reproduction.plan.few_shot.trained_longer`).  Runs that diverged are left out of the
differences and named in the verdict; where one of them is of the method that the claim speaks
for, the claim is not supported.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import pandas as pd

from reproduction.claims.finding import ABOVE, NOTHING, TOO_FEW, Finding, evidence_line, left_out
from reproduction.report.curves import LAYERS, layer_sparsity, paired_gain
from reproduction.report.frame import by_experiment, finished

from ..plan.few_shot import LONGER_RUNS
from ..runs.records import Record
from ..runs.statistics import Interval, t_interval

Groups = Mapping[str, Sequence[Record]]

ZERO_RATES = 5
"""Claim 7: final share of rates at zero, percent."""

P, P_IN_PART = 0.01, 0.05
"""Claim 8: below which p supports it, and supports it partly."""

LOST = 1
"""Claim 11: percentage points that sparse-MAML's interval may not lie above."""

PERMUTATIONS = 9_999
"""Random assignments of runs to problems behind the p-value of claim 8."""

LONGER = LONGER_RUNS
"""How the names of runs begin that were trained longer."""


class Test(Protocol):
    """From records to the outcome."""

    def __call__(self, records: Iterable[Record], of: str = ..., /) -> Finding:
        """Test the claim on runs whose names begin with `of`."""


def _about(
    network: str,
    speaks_for: Collection[str] = (),
    others: Collection[str] = (),
    shown: Collection[str] = (),
) -> Callable[[Callable[[Iterable[Record], str], Finding]], Test]:
    """Give a test the finished runs that it needs, and its verdict word of the diverged ones."""

    def decorate(test: Callable[[Iterable[Record], str], Finding]) -> Test:
        @functools.wraps(test)
        def decided(records: Iterable[Record], of: str = network, /) -> Finding:
            mine = {f"{of}-{name}" for name in speaks_for}
            needed = mine | {f"{of}-{name}" for name in others}
            given = list(records)
            runs = [r for r in given if not mine or r["experiment"] in needed]
            done = finished(runs)
            beside = {f"{of}-{name}" for name in shown}
            finding = test(done + finished([r for r in given if r["experiment"] in beside]), of)
            if of == LONGER:
                finding = finding._replace(claim=f"{finding.claim}, trained longer")
            if len(done) == len(runs):
                return finding
            own = [r for r in runs if not mine or r["experiment"] in mine]
            verdict = finding.verdict
            if len(finished(own)) < len(own):
                verdict = "not supported"
            elif verdict == TOO_FEW and any(
                len(g) > 1 and not finished(g) for g in by_experiment(runs).values()
            ):
                verdict = "not testable"  # what is left out says why
            return finding._replace(verdict=verdict + left_out(runs))

        return decided

    return decorate


def _both(*methods: str) -> list[str]:
    return [f"{shots}shot-{method}" for shots in (1, 5) for method in methods]


@_about("convnet4", _both("sparse-maml"), _both("boil", "maml", "anil"))
def convnet4_order(records: Iterable[Record], of: str) -> Finding:
    """Test claim 5 on ConvNet-4: sparse-MAML > BOIL > MAML > ANIL."""
    claim = "5a. ConvNet-4: sparse-MAML > BOIL > MAML > ANIL"
    groups = by_experiment(records)
    order = ("sparse-maml", "boil", "maml", "anil")
    shots = (5,) if of == LONGER else (1, 5)
    steps = [
        _compare(groups, f"{of}-{n}shot", a, b) for n in shots for a, b in itertools.pairwise(order)
    ]
    gains = [_compare(groups, f"{of}-{n}shot", "sparse-maml", "maml") for n in shots]
    ends = [_compare(groups, f"{of}-{n}shot", order[0], order[-1]) for n in shots]
    if None in (*steps, *gains, *ends):
        return _undecided(claim)
    found = [pair for pair in (*steps, *gains) if pair is not None]
    lines = [evidence_line(name, i, ABOVE) for name, i in found]
    whole = all(line["holds"] for line in lines[: len(steps)])
    of_gain = lines[len(steps) :]
    part = any(line["holds"] for line in of_gain) and all(line["high"] >= 0 for line in of_gain)
    lines += [evidence_line(*pair, NOTHING) for pair in ends if pair is not None]
    return Finding(claim, _verdict(whole, part), pd.DataFrame(lines))


@_about("resnet12", _both("sparse-relu-maml"), _both("maml", "anil", "boil", "sparse-maml"))
def resnet12_best(records: Iterable[Record], of: str) -> Finding:
    """Test claim 5 on ResNet-12: sparse-ReLU-MAML is best."""
    claim = "5b. ResNet-12: sparse-ReLU-MAML is best"
    groups = by_experiment(records)
    others = ("maml", "anil", "boil", "sparse-maml")
    pairs = {
        (shots, other): _compare(groups, f"{of}-{shots}shot", "sparse-relu-maml", other)
        for shots in (1, 5)
        for other in others
    }
    if None in pairs.values():
        return _undecided(claim)
    found = {key: pair for key, pair in pairs.items() if pair is not None}
    lines = {key: evidence_line(name, i, ABOVE) for key, (name, i) in found.items()}
    beats = any(lines[shots, "maml"]["holds"] for shots in (1, 5))
    table = pd.DataFrame(lines.values())
    return Finding(claim, _verdict(all(table["holds"]), beats and all(table["high"] >= 0)), table)


LITTLE = 2
"""Percentage points within which a difference counts as little in :func:`resnet12_masks`."""


@_about("resnet12", _both("sparse-maml"), _both("anil"))
def resnet12_masks(records: Iterable[Record], of: str) -> Finding:
    """Test the rest of claim 5: with ResNet-12 binary masks give little over ANIL."""
    claim = "5c. ResNet-12: binary masks give little over ANIL"
    groups = by_experiment(records)
    pairs = [_compare(groups, f"{of}-{shots}shot", "sparse-maml", "anil") for shots in (1, 5)]
    found = [pair for pair in pairs if pair is not None]
    if len(found) < len(pairs):
        return _undecided(claim)
    lines = [evidence_line(n, i, f"interval within ±{LITTLE}") for n, i in found]
    holds = [line["holds"] for line in lines]
    outside = any(i.low > LITTLE or i.high < -LITTLE for _, i in found)
    return Finding(claim, _verdict(all(holds), any(holds) and not outside), pd.DataFrame(lines))


@_about(
    "convnet4",
    ["5shot-sparse-maml"],
    ["5shot-maml"],
    shown=["1shot-sparse-maml", "1shot-maml"],
)
def cross_domain(records: Iterable[Record], of: str) -> Finding:
    """Test claim 6: the gain on CUB at 5 shots, alone and against the gain at home."""
    claim = "6. Across domains gains over MAML are largest at 5 shots on CUB and Cars"
    groups = by_experiment(records)

    def gains(shots: int, probe: str | None) -> dict[int, float]:
        sparse, maml = (
            {seed: _answer(r, probe) for seed, r in _runs(groups, f"{of}-{shots}shot-{m}").items()}
            for m in ("sparse-maml", "maml")
        )
        found = {s: sparse[s] - maml[s] for s in sparse.keys() & maml.keys()}
        return {s: g for s, g in found.items() if np.isfinite(g)}

    away, home, with_one = gains(5, "on:cub"), gains(5, None), gains(1, "on:cub")
    seeds = sorted(away.keys() & home.keys())
    if len(seeds) < 2:
        return _undecided(claim, len(seeds), home, "tested on CUB")
    there = t_interval([away[s] for s in seeds])
    more = t_interval([away[s] - home[s] for s in seeds])
    lines = [
        evidence_line("gain on CUB, 5 shots", there, ABOVE),
        evidence_line("gain on CUB − gain on miniImageNet", more, ABOVE),
    ]
    holds = [line["holds"] for line in lines]
    both = sorted(away.keys() & with_one.keys())
    if len(both) > 1:
        shots = t_interval([away[s] - with_one[s] for s in both])
        lines.append(evidence_line("gain on CUB, 5 shots − 1 shot", shots, NOTHING))
    return Finding(claim, _verdict(all(holds), bool(holds[0])), pd.DataFrame(lines))


@_about("convnet4", ["5shot-sparse-relu-maml"])
def relu_sparsity(records: Iterable[Record], of: str) -> Finding:
    """Test claim 7: rates learned under a ReLU become zero, and not in all layers alike."""
    claim = "7. Sparsity also emerges when rates are learned under a ReLU"
    group = by_experiment(records).get(f"{of}-5shot-sparse-relu-maml", [])
    if len(group) < 2:
        return _undecided(claim)
    share = t_interval([100 * r["final"]["sparsity"] for r in group])
    differ = t_interval(
        [
            100 * (layer_sparsity(r, LAYERS[0])[-1] - layer_sparsity(r, LAYERS[-1])[-1])
            for r in group
        ]
    )
    lines = [
        evidence_line("final share of rates at zero", share, f"interval above {ZERO_RATES}"),
        evidence_line("layer1 − output", differ, "interval without 0"),
    ]
    emerges, apart = (line["holds"] for line in lines)
    return Finding(claim, _verdict(emerges and apart, emerges), pd.DataFrame(lines))


@_about("")
def by_problem(records: Iterable[Record], of: str) -> Finding:
    """Test claim 8: profiles of sparsity differ between problems more than within."""
    claim = "8. The pattern of sparsity differs from problem to problem"
    groups = {n: g for n, g in by_experiment(records).items() if len(g) >= 2}
    if len(groups) < 2:
        return _undecided(claim)
    profiles = np.array(
        [[100 * layer_sparsity(r, name)[-1] for name in LAYERS] for g in groups.values() for r in g]
    )
    labels = np.repeat(np.arange(len(groups)), [len(g) for g in groups.values()])
    ratio = pseudo_f(profiles, labels)
    rng = np.random.default_rng(0)
    as_large = sum(
        pseudo_f(profiles, rng.permutation(labels)) >= ratio for _ in range(PERMUTATIONS)
    )
    p = (1 + as_large) / (1 + PERMUTATIONS)
    seeds = min(len(g) for g in groups.values())
    lines = [
        evidence_line("pseudo-F between problems", _exact(ratio, seeds), NOTHING),
        evidence_line("p by permutation", _exact(p, seeds), f"below {P}"),
    ]
    return Finding(claim, _verdict(lines[-1]["holds"], p < P_IN_PART), pd.DataFrame(lines))


def pseudo_f(points: np.ndarray, labels: np.ndarray) -> float:
    """Return the ratio of variance between groups to that within, each by its freedom."""
    sizes = np.bincount(labels)
    centres = np.stack([points[labels == k].mean(0) for k in range(len(sizes))])
    between = (sizes * ((centres - points.mean(0)) ** 2).sum(1)).sum() / (len(sizes) - 1)
    within = ((points - centres[labels]) ** 2).sum() / (len(points) - len(sizes))
    rounding = points.size * (1e-12 * np.abs(points).max()) ** 2
    if between <= rounding:
        return 0.0
    return float(between / within) if within > rounding else np.inf


@_about("convnet4", ["5shot-sparse-maml"], ["5shot-maml"])
def longer_loops(records: Iterable[Record], of: str) -> Finding:
    """Test claim 11: what more inner steps cost MAML and sparse-MAML, at 5 shots."""
    claim = "11. Longer inner loops without overfitting"
    groups = by_experiment(records)
    losses, runs = {}, []
    for method in ("maml", "sparse-maml"):
        group = groups.get(f"{of}-5shot-{method}", [])
        runs.append({r["seed"] for r in group})
        k = group[0]["parameters"]["inner_steps"] if group else 0
        names = (f"steps/{k}", f"steps/{10 * k}")
        losses[method] = {s: a[names[0]] - a[names[1]] for s, a in _by_seed(group, names).items()}
    seeds = sorted(losses["maml"].keys() & losses["sparse-maml"].keys())
    if len(seeds) < 2:
        return _undecided(claim, len(seeds), runs[0] & runs[1], "tested with more steps")
    own, of_maml = (t_interval([losses[m][s] for s in seeds]) for m in ("sparse-maml", "maml"))
    more = t_interval([losses["maml"][s] - losses["sparse-maml"][s] for s in seeds])
    lines = [
        evidence_line("loss of MAML − loss of sparse-MAML", more, ABOVE),
        evidence_line("loss of sparse-MAML", own, f"interval not above {LOST}"),
    ]
    holds = [line["holds"] for line in lines]
    lines.append(evidence_line("loss of MAML", of_maml, NOTHING))
    return Finding(claim, _verdict(all(holds), bool(holds[0])), pd.DataFrame(lines))


@_about("convnet4", ["5shot-sparse-maml-own-masks"], ["5shot-sparse-maml-shuffled-masks"])
def pattern_and_density(records: Iterable[Record], of: str) -> Finding:
    """Test the first question of claim 12: own masks against shuffled ones."""
    claim = "12a. The pattern of the mask adds to its density"
    groups = by_experiment(records)
    name = f"{of}-5shot-sparse-maml"
    gain = paired_gain(
        groups.get(f"{name}-own-masks", []), groups.get(f"{name}-shuffled-masks", [])
    )
    if gain is None or gain.n < 2:
        return _undecided(claim)
    line = evidence_line("own masks − shuffled within tensors", gain, ABOVE)
    return Finding(claim, _verdict(line["holds"], False), pd.DataFrame([line]))


@_about("convnet4", ["5shot-sparse-maml"], ["5shot-maml"])
def features_move_less(records: Iterable[Record], of: str) -> Finding:
    """Test the second question of claim 12: similarity of features before and after."""
    claim = "12b. Features move less under sparse-MAML than under MAML"
    groups = by_experiment(records)
    name = "movement/layer4"
    pair = [groups.get(f"{of}-5shot-{m}", []) for m in ("sparse-maml", "maml")]
    sparse, maml = (_by_seed(group, (name,)) for group in pair)
    seeds = sorted(sparse.keys() & maml.keys())
    if len(seeds) < 2:
        runs = [{r["seed"] for r in group} for group in pair]
        return _undecided(claim, len(seeds), runs[0] & runs[1], "with features compared")
    more = t_interval([sparse[s][name] - maml[s][name] for s in seeds])
    line = evidence_line("similarity, sparse-MAML − MAML", more, ABOVE)
    return Finding(claim, _verdict(line["holds"], False), pd.DataFrame([line]))


def _compare(groups: Groups, prefix: str, a: str, b: str) -> tuple[str, Interval] | None:
    """Return a name and the gain of one method over another, or None with too few seeds."""
    gain = paired_gain(groups.get(f"{prefix}-{a}", []), groups.get(f"{prefix}-{b}", []))
    return None if gain is None or gain.n < 2 else (f"{prefix}: {a} − {b}", gain)


def _runs(groups: Groups, name: str) -> dict[int, Record]:
    return {r["seed"]: r for r in groups.get(name, [])}


def _answer(record: Record, probe: str | None) -> float:
    """Return the answer of a probe, or without one the test accuracy, in percent."""
    final = record["final"]
    found = final.get("probes", {}).get(probe) if probe else final["test_accuracy"]
    return np.nan if found is None or found["mean"] is None else 100 * found["mean"]


def _by_seed(group: Iterable[Record], names: Sequence[str]) -> dict[int, dict[str, float]]:
    """Return answers of probes times 100, by seed, of runs that have them all."""
    found = {}
    for r in group:
        answers = r["final"].get("probes", {})
        if all(answers.get(n, {}).get("mean") is not None for n in names):
            found[r["seed"]] = {n: 100 * answers[n]["mean"] for n in names}
    return found


def _exact(value: float, seeds: int) -> Interval:
    return Interval(value, np.nan, np.nan, seeds)


def _verdict(whole: bool, part: bool) -> str:
    return "supported" if whole else "partly supported" if part else "not supported"


def _undecided(
    claim: str, seeds: int = 0, paired: Collection[int] = (), answer: str = ""
) -> Finding:
    """Say why a claim is not decided: too few seeds, or seeds enough without the answer."""
    few = f"no data (seeds {answer}: {seeds} of {len(paired)})" if len(paired) > 1 else TOO_FEW
    return Finding(claim, few, pd.DataFrame())
