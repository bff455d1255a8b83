"""The ledger of claims: what the paper says, what decides it here, and what came out.

Everything in it is made from the study's records; ``python -m wheretolearn.readme`` writes
it to ``results/claims.json``, and a test fails if the file no longer fits the records.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from . import continual_claims, few_shot, osaka_claims, study
from . import few_shot_claims as tests
from .analysis import TOO_FEW, Finding, accuracy_gain, emergence, layer_order
from .continual import plan as continual
from .continual.experiment import ContinualExperiment
from .continual.osaka_run import OsakaExperiment
from .experiments import Experiment, Planned
from .records import Record, load
from .robustness import robustness
from .tables import table, verdicts


class Claim(NamedTuple):
    """A claim of the paper, and the test that decides it."""

    number: str
    """As in the chapter "Decided beforehand"."""
    says: str
    """The claim in a few words."""
    page: str
    """Notebook that shows the evidence."""
    problem: str
    """What it is tested on."""
    test: Callable[[Sequence[Record]], Finding] | None
    """From records to the outcome; None where no test has been stated yet."""
    runs: Sequence[Planned] = ()
    """The experiments that the test needs."""
    headline: str = ""
    """The statistic that stands for the evidence: a line of it."""
    unit: str = "points"
    """Of the headline."""
    paper: Callable[[Path], float] | None = None
    """The same statistic in the paper's published numbers; None where it gives none."""


class Entry(NamedTuple):
    """A line of the ledger."""

    claim: Claim
    finding: Finding
    verdict: str
    """With how much of the evidence there is, as long as runs are missing."""
    headline: dict[str, Any] | None
    """The line of the evidence that stands for it."""
    paper: float | None
    done: int
    """Runs that have a record."""


def _of_table1(*methods: str, columns: Sequence[str]) -> list[Experiment]:
    wanted = {f"{column}-{method}" for column in columns for method in methods}
    return [e for e in study.few_shot("study", few_shot.TABLE1) if e.name in wanted]


def _named(figure: str, *endings: str) -> list[Experiment]:
    return [e for e in study.few_shot("study", figure) if e.name.endswith(endings)]


def _tuned(*learners: str) -> list[ContinualExperiment]:
    """Return the runs of some continual learners with the settings of the search."""
    wanted = {f"{s}-{learner}-tuned" for s in continual.STREAMS for learner in learners}
    return [e for e in continual.la_maml() if e.name in wanted]


def _figure_1() -> list[Claim]:
    found = []
    for data, title in (("omniglot", "Omniglot"), ("miniimagenet", "miniImageNet")):
        prefix = f"fig1-{data}"

        def runs(*endings: str, prefix: str = prefix) -> list[Experiment]:
            return [e for e in _named(few_shot.FIG1, *endings) if e.name.startswith(prefix)]

        found += [
            Claim(
                "1",
                "Sparsity emerges and settles at its own level from any initial sparsity",
                few_shot.FIG1,
                title,
                partial(emergence, prefix=prefix),
                runs("-sparse0", "-sparse25", "-sparse50", "-sparse75", "-sparse100"),
                "spread between levels, end / start",
                "ratio",
                _spread,
            ),
            Claim(
                "2",
                "Earlier layers get sparser, the output layer stays most plastic",
                few_shot.FIG1,
                title,
                partial(layer_order, prefix=prefix),
                runs("-sparse50"),
                "layer1 − output",
                paper=_first_to_last,
            ),
            Claim(
                "3",
                "More accurate than MAML at every initial sparsity, best around 50 %",
                few_shot.FIG1,
                title,
                partial(accuracy_gain, prefix=prefix),
                runs("-maml", "-sparse0", "-sparse20", "-sparse50", "-sparse80", "-sparse100"),
                "mean over levels − MAML",
                paper=_gain_over_levels,
            ),
        ]
    return found


def claims() -> list[Claim]:
    """Return every claim, in the order of its number.

    Returns
    -------
    list of Claim
    """
    five_shot = partial(_of_table1, columns=["convnet4-5shot"])
    both = ("convnet4-5shot", "convnet4-1shot")
    found = [
        *_figure_1(),
        Claim(
            "4",
            "No worse than MAML at any inner steps, rate and width; survives large rates; "
            "sparsity grows with steps and rate and shrinks with width",
            few_shot.FIG2,
            "miniImageNet",
            robustness,
            study.few_shot("study", few_shot.FIG2),
            "mean gain over all settings",  # the paper's figure cuts MAML off where it collapses
        ),
        Claim(
            "5a",
            "ConvNet-4: sparse-MAML > BOIL > MAML > ANIL",
            few_shot.TABLE1,
            "miniImageNet",
            tests.convnet4_order,
            _of_table1("sparse-maml", "boil", "maml", "anil", columns=both),
            "convnet4-5shot: sparse-maml − maml",
            paper=partial(_table1, "ConvNet-4", "sparse-MAML"),
        ),
        Claim(
            "5b",
            "ResNet-12: sparse-ReLU-MAML is best",
            few_shot.TABLE1,
            "miniImageNet",
            tests.resnet12_best,
            [e for e in study.few_shot("study", few_shot.TABLE1) if e.network == "resnet12"],
            "resnet12-5shot: sparse-relu-maml − maml",
            paper=partial(_table1, "ResNet-12", "sparse-ReLU-MAML"),
        ),
        Claim(
            "6",
            "Across domains the gain is largest at 5-shot CUB",
            few_shot.TABLE2,
            "miniImageNet → CUB (2010)",
            tests.cross_domain,
            five_shot("sparse-maml", "maml"),
            "gain on CUB, 5 shots",
            paper=_cub,
        ),
        Claim(
            "7",
            "Sparsity also emerges when rates are learned under a ReLU",
            few_shot.LEARNED_RATES,
            "miniImageNet",
            tests.relu_sparsity,
            five_shot("sparse-relu-maml"),
            "final share of rates at zero",
            "%",
        ),
        Claim(
            "8",
            "The pattern of sparsity differs from problem to problem",
            few_shot.BY_PROBLEM,
            "miniImageNet, CUB (2010), Omniglot, glyphs",
            tests.by_problem,
            study.few_shot("study", few_shot.BY_PROBLEM),
            "p by permutation",
            "p",
        ),
        Claim(
            "9",
            "Continual learning: sparse-La-MAML interferes less than La-MAML and retains more",
            continual.LA_MAML,
            "MNIST Rotations, Permutations, Many Permutations",
            partial(continual_claims.retains_more, form=continual.SPARSE_FORM),
            _tuned("la-maml", *continual_claims.FORMS),
            "BTI, rotations: sparse-La-MAML − La-MAML",
        ),
        Claim(
            "10a",
            "Continual learning: sparse-C-MAML gains online accuracy in OSAKA, against C-MAML "
            "as selected",
            continual.OSAKA,
            "Omniglot, MNIST, FashionMNIST",
            osaka_claims.against_selected,
            osaka_claims.runs(osaka_claims.AS_SELECTED),
            osaka_claims.gain_at(0.98),
        ),
        Claim(
            "10b",
            "Continual learning: the gain in OSAKA is one of the sparse rates alone",
            continual.OSAKA,
            "Omniglot, MNIST, FashionMNIST",
            osaka_claims.sparse_rates_alone,
            osaka_claims.runs(osaka_claims.SAME_BUT_DENSE),
            osaka_claims.gain_at(0.98),
        ),
        Claim(
            "11",
            "Longer inner loops without overfitting",
            few_shot.LONGER,
            "miniImageNet",
            tests.longer_loops,
            five_shot("sparse-maml", "maml"),
            "loss of MAML − loss of sparse-MAML",
        ),
        Claim(
            "12a",
            "The pattern of the mask adds to its density",
            few_shot.FEATURES,
            "miniImageNet",
            tests.pattern_and_density,
            _named(few_shot.FEATURES, "-own-masks", "-shuffled-masks"),
            "own masks − shuffled within tensors",
        ),
        Claim(
            "12b",
            "Features move less under sparse-MAML than under MAML",
            few_shot.FEATURES,
            "miniImageNet",
            tests.features_move_less,
            five_shot("sparse-maml", "maml"),
            "similarity, sparse-MAML − MAML",
            "CKA × 100",
        ),
    ]
    return sorted(found, key=lambda c: (int(c.number.rstrip("ab")), c.number))


def entries(results: Path) -> list[Entry]:
    """Apply every test to the records that there are.

    Parameters
    ----------
    results : Path
        The folder of the records, with the paper's numbers in ``paper``.

    Returns
    -------
    list of Entry
        In the order of :func:`claims`.
    """
    return [_entry(claim, load(results, claim.runs), results / "paper") for claim in claims()]


def _entry(claim: Claim, records: Sequence[Record], published: Path) -> Entry:
    planned = _planned(claim)
    paper = claim.paper(published) if claim.paper else None
    if claim.test is None:
        nothing = Finding(claim.says, "no test stated yet", pd.DataFrame())
        return Entry(claim, nothing, nothing.verdict, None, paper, 0)
    finding = claim.test(records)
    if len(records) == planned:
        verdict = finding.verdict
    elif finding.verdict.startswith(TOO_FEW):
        verdict = f"not run yet ({len(records)} of {planned} runs)"
    else:
        verdict = f"{finding.verdict}, so far ({len(records)} of {planned} runs)"
    lines = finding.evidence.to_dict("records") if len(finding.evidence) else []
    headline = next((dict(line) for line in lines if line["statistic"] == claim.headline), None)
    if lines and headline is None:
        raise ValueError(f"claim {claim.number}: its test has no statistic {claim.headline!r}")
    return Entry(claim, finding, verdict, headline, paper, len(records))


def as_data(found: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return the ledger as plain data, as it stands in ``results/claims.json``.

    Parameters
    ----------
    found : sequence of Entry
        From :func:`entries`.

    Returns
    -------
    list of dict
    """
    return [
        {
            "claim": e.claim.number,
            "says": e.claim.says,
            "problem": e.claim.problem,
            "setting": setting(e.claim.runs),
            "verdict": e.verdict,
            "headline": e.claim.headline,
            "unit": e.claim.unit if e.claim.test else "",
            "paper": _plain(e.paper),
            "evidence": [
                {str(k): _plain(v) for k, v in line.items()}
                for line in e.finding.evidence.to_dict("records")
            ],
            "runs": [e.done, _planned(e.claim)],
            "records": [f"results/study/{run.name}/" for run in e.claim.runs],
            "figure": f"notebooks/{e.claim.page}.ipynb" if e.claim.page else None,
        }
        for e in found
    ]


def write(path: Path, found: Sequence[Entry]) -> None:
    """Write the ledger as JSON."""
    text = json.dumps(as_data(found), indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def overview(found: Sequence[Entry], link: str = "{}.html") -> str:
    """Return the ledger as a table in Markdown.

    Parameters
    ----------
    found : sequence of Entry
        From :func:`entries`.
    link : str
        How a page is linked to, with ``{}`` for its name.

    Returns
    -------
    str
    """
    rows = []
    for e in found:
        name = f"{e.claim.number}. {e.claim.says}"
        rows.append(
            (
                f"[{name}]({link.format(e.claim.page)})" if e.claim.page else name,
                e.claim.problem,
                e.verdict,
                _shown(e),
                "–" if e.paper is None else f"{e.paper:.2f}",
            )
        )
    header = ("claim", "tested on", "verdict", "estimate [95 % interval]", "paper")
    return table(header, rows)


def settings(found: Sequence[Entry]) -> str:
    """Return what each claim was tested in as a table in Markdown, with its number of runs."""
    rows = [
        (e.claim.number, e.claim.problem, setting(e.claim.runs), f"{e.done} of {_planned(e.claim)}")
        for e in found
        if e.claim.runs
    ]
    return table(("claim", "tested on", "setting", "runs"), rows)


def evidence(found: Sequence[Entry]) -> str:
    """Return every statistic of every test that could be applied, in Markdown."""
    tested = [
        e.finding._replace(claim=f"{e.finding.claim} ({e.claim.problem})", verdict=e.verdict)
        for e in found
        if len(e.finding.evidence)
    ]
    return verdicts(tested) or "No test could be applied yet."


def power(found: Sequence[Entry]) -> str:
    """Return what the seeds at hand could have shown, as a table in Markdown.

    For each headline with an interval and a published counterpart: half of the interval's width,
    and the number of seeds at which Student's interval would be half as wide as the paper's
    effect is large, so that an effect of that size would be told from zero about always.
    """
    rows = []
    for e in found:
        line = e.headline
        if line is None or e.paper is None or e.claim.unit != "points":
            continue
        half = (line["high"] - line["low"]) / 2
        rows.append(
            (
                f"{e.claim.number} ({e.claim.problem})",
                line["statistic"],
                f"±{half:.2f}",
                f"{e.paper:.2f}",
                str(line["seeds"]),
                _seeds_for(e.paper / 2, half, line["seeds"]),
            )
        )
    header = (
        "claim",
        "statistic (points)",
        "interval now",
        "the paper's effect",
        "seeds",
        "seeds for ± half of that effect",
    )
    return table(header, rows) if rows else "No interval has a published counterpart yet."


def _seeds_for(wanted: float, half: float, seeds: int) -> str:
    """Return at how many seeds Student's interval would have a half width of `wanted`."""
    spread = half * math.sqrt(seeds) / stats.t.ppf(0.975, seeds - 1)
    for n in range(2, 1000):
        if stats.t.ppf(0.975, n - 1) * spread / math.sqrt(n) <= wanted:
            return str(n)
    return "1000 or more"


def _planned(claim: Claim) -> int:
    return sum(len(study.seeds(e)) for e in claim.runs)


def _shown(entry: Entry) -> str:
    line = entry.headline
    if line is None:
        return "–"
    text = f"{line['mean']:.2f}" if entry.claim.unit != "p" else f"{line['mean']:.4f}"
    if math.isfinite(line["low"]):
        text += f" [{line['low']:.2f}, {line['high']:.2f}]"
    unit = "" if entry.claim.unit == "p" else f" {entry.claim.unit}"
    return f"{line['statistic']}: {text}{unit}, {line['seeds']} seeds"


def setting(runs: Sequence[Planned]) -> str:
    """Say in one line what some experiments have in common, and what they go through."""
    if osaka := [e for e in runs if isinstance(e, OsakaExperiment)]:
        return osaka_claims.setting(osaka)
    if of_streams := [e for e in runs if isinstance(e, ContinualExperiment)]:
        return _of_streams(of_streams)
    return _of_few_shot([e for e in runs if isinstance(e, Experiment)])


def _of_streams(runs: Sequence[ContinualExperiment]) -> str:
    streams = ", ".join(dict.fromkeys(e.stream for e in runs))
    learners = ", ".join(dict.fromkeys(e.learner for e in runs))
    width = ", ".join(str(w) for w in sorted({e.width for e in runs}))
    searched = all(e.name.endswith("-tuned") for e in runs)
    return (
        f"{streams}, in a single pass, perceptron with two hidden layers of {width} units, "
        f"{learners}" + (", settings chosen on validation streams" if searched else "")
    )


def _of_few_shot(runs: Sequence[Experiment]) -> str:
    if not runs:
        return ""

    def values(name: str) -> str:
        return ", ".join(f"{v:g}" for v in sorted({getattr(e, name) for e in runs}))

    data = ", ".join(sorted({e.data for e in runs}))
    network = ", ".join(sorted({e.network for e in runs}))
    return (
        f"{data}, {values('ways')}-way {values('shots')}-shot, {values('image_size')} px, "
        f"{network} with {values('width')} channels, K = {values('inner_steps')}, inner rate "
        f"{values('inner_rate')}, {values('updates')} updates × {values('meta_batch')} tasks"
    )


def _plain(value: Any) -> Any:
    """Return a number as it stands in JSON: NaN is null, six digits after the point."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return round(float(value), 6) if math.isfinite(value) else None
    return value


def _spread(published: Path) -> float:
    left = pd.read_csv(published / "fig1_left_sparsity_by_epoch.csv")
    ends = left.sort_values("epoch").groupby("init_sparsity")["sparsity"]
    return float(np.ptp(ends.last()) / np.ptp(ends.first()))


def _first_to_last(published: Path) -> float:
    centre = pd.read_csv(published / "fig1_centre_sparsity_by_layer.csv").sort_values("epoch")
    ends = centre.groupby("layer", sort=False)["sparsity"].last()
    return float(ends["layer1"] - ends["output"])


def _gain_over_levels(published: Path) -> float:
    right = pd.read_csv(published / "fig1_right_accuracy_by_init.csv")
    return float((right["sparse_maml_accuracy"] - right["maml_accuracy"]).mean())


def _table1(network: str, method: str, published: Path) -> float:
    numbers = pd.read_csv(published / "table1.csv").set_index(["network", "shots", "method"])
    accuracy = numbers["accuracy"]
    return float(accuracy[network, 5, method] - accuracy[network, 5, "MAML"])


def _cub(published: Path) -> float:
    numbers = pd.read_csv(published / "table2.csv").set_index(["method", "dataset", "shots"])
    accuracy = numbers["accuracy"]
    return float(accuracy["sparse-MAML", "CUB", 5] - accuracy["MAML", "CUB", 5])
