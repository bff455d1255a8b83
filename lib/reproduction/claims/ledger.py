"""The ledger of claims: what the paper says, what decides it here, and what came out.

Everything in it is made from the study's records; ``python -m reproduction.claims.readme`` writes
it to ``results/claims.json``, and a test fails if the file no longer fits the records.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
from scipy import stats

from reproduction.claims.figure1 import accuracy_gain, emergence, layer_order
from reproduction.claims.figure2 import robustness
from reproduction.claims.finding import NOTHING, TOO_FEW, Finding, verdicts
from reproduction.report.markdown import Markdown, bounds, inline, number, table

from ..plan import few_shot, study
from ..plan import streams as continual
from ..runs.experiment import Experiment, Planned
from ..runs.osaka import OsakaExperiment
from ..runs.records import Record, check_data, load
from ..runs.streams import ContinualExperiment
from . import few_shot as tests
from . import osaka as osaka_claims
from . import stated
from . import streams as continual_claims
from .stated import Stated


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
    """The same statistic in the paper's published numbers; None where it gives none, or only
    against the numbers of another paper."""
    stated: Stated | None = None
    """The test in words; None where none has been stated yet."""
    late: str = ""
    """When it was stated, if something was known by then that it is about."""


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
    """Planned runs that have a record."""


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
                stated.EMERGENCE,
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
                stated=stated.LAYER_ORDER,
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
                stated=stated.ACCURACY_GAIN,
            ),
        ]
    return found


def claims() -> list[Claim]:
    """Return every claim, in the order of its number."""
    five_shot = partial(_of_table1, columns=["convnet4-5shot"])
    both = ("convnet4-5shot", "convnet4-1shot")
    figure_2 = study.few_shot("study", few_shot.FIG2)
    found = [
        *_figure_1(),
        Claim(
            "4",
            "No worse than MAML at any inner steps, rate and width; survives large rates; "
            "sparsity grows with steps and rate and shrinks with width",
            few_shot.FIG2,
            "miniImageNet",
            robustness,
            figure_2,
            "mean gain over all settings",  # the paper's figure cuts MAML off where it collapses
            stated=stated.robustness(figure_2),
        ),
        Claim(
            "5a",
            "ConvNet-4: sparse-MAML > BOIL > MAML > ANIL",
            few_shot.TABLE1,
            "miniImageNet",
            tests.convnet4_order,
            _of_table1("sparse-maml", "boil", "maml", "anil", columns=both),
            "convnet4-5shot: sparse-maml − maml",
            paper=_like_for_like,
            stated=stated.convnet4_order("convnet4", (1, 5)),
        ),
        Claim(
            "5b",
            "ResNet-12: sparse-ReLU-MAML is best",
            few_shot.TABLE1,
            "miniImageNet",
            tests.resnet12_best,
            [e for e in study.few_shot("study", few_shot.TABLE1) if e.network == "resnet12"],
            "resnet12-5shot: sparse-relu-maml − maml",
            paper=partial(_table1, "sparse-ReLU-MAML", "MAML"),
            stated=stated.RESNET12_BEST,
        ),
        Claim(
            "5c",
            "ResNet-12: binary masks give little over ANIL (a test stated after its runs)",
            few_shot.TABLE1,
            "miniImageNet",
            tests.resnet12_masks,
            _of_table1("sparse-maml", "anil", columns=("resnet12-1shot", "resnet12-5shot")),
            "resnet12-5shot: sparse-maml − anil",
            paper=partial(_table1, "sparse-MAML", "ANIL"),
            stated=stated.RESNET12_MASKS,
            late="stated when its runs were known",
        ),
        Claim(
            "6",
            "Across domains gains are largest at 5 shots on CUB and Cars (CUB alone is tested)",
            few_shot.TABLE2,
            "miniImageNet → CUB (2010)",
            tests.cross_domain,
            _of_table1("sparse-maml", "maml", columns=both),
            "gain on CUB, 5 shots",  # Table 2 compares with another paper's MAML
            stated=stated.CROSS_DOMAIN,
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
            stated=stated.RELU_SPARSITY,
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
            stated=stated.BY_PROBLEM,
        ),
        Claim(
            "9",
            "Continual learning: sparse-La-MAML interferes less than La-MAML and retains more",
            continual.LA_MAML,
            "MNIST Rotations, Permutations, Many Permutations",
            continual_claims.retains_more,
            _tuned("la-maml", continual.SPARSE_FORM),
            "BTI on Rotations: sparse-La-MAML − La-MAML",
            stated=stated.RETAINS_MORE,
        ),
        Claim(
            "10a",
            "Continual learning: sparse-C-MAML gains online accuracy in OSAKA, against C-MAML "
            "as selected",
            continual.OSAKA,
            "Omniglot, MNIST, FashionMNIST",
            osaka_claims.against_selected,
            osaka_claims.runs(osaka_claims.AS_SELECTED),
            osaka_claims.gain_at(0.90),
            stated=stated.ONLINE_ACCURACY,
        ),
        Claim(
            "10b",
            "Continual learning: the gain in OSAKA is one of the sparse rates alone",
            continual.OSAKA,
            "Omniglot, MNIST, FashionMNIST",
            osaka_claims.sparse_rates_alone,
            osaka_claims.runs(osaka_claims.SAME_BUT_DENSE),
            osaka_claims.gain_at(0.90),
            stated=stated.ONLINE_ACCURACY,
        ),
        Claim(
            "11",
            "Longer inner loops without overfitting",
            few_shot.LONGER,
            "miniImageNet",
            tests.longer_loops,
            five_shot("sparse-maml", "maml"),
            "loss of MAML − loss of sparse-MAML",
            stated=stated.LONGER_LOOPS,
        ),
        Claim(
            "12a",
            "The pattern of the mask adds to its density",
            few_shot.FEATURES,
            "miniImageNet",
            tests.pattern_and_density,
            _named(few_shot.FEATURES, "-own-masks", "-shuffled-masks"),
            "own masks − shuffled within tensors",
            stated=stated.PATTERN_AND_DENSITY,
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
            stated=stated.FEATURES_MOVE_LESS,
        ),
    ]
    found += [_trained_longer(c) for c in found if c.number in ("5a", "6", "11", "12b")]
    return sorted(found, key=lambda c: (whole_number(c), c.number))


def whole_number(claim: Claim) -> int:
    """Return the number of a claim without what tells its lines apart."""
    return int("".join(itertools.takewhile(str.isdigit, claim.number)))


def _trained_longer(claim: Claim) -> Claim:
    """Return a claim about Table 1 that is tested on the runs that were trained longer."""
    test = cast(tests.Test, claim.test)
    runs = [
        e
        for e in study.few_shot("study", few_shot.TABLE1)
        if e.name.startswith(f"{tests.LONGER}-")
        and (claim.number == "5a" or e.method in ("maml", "sparse-maml"))
    ]
    told = stated.convnet4_order(tests.LONGER, (5,)) if claim.number == "5a" else claim.stated
    if claim.number == "6":  # with one shot nothing was trained longer
        told = stated.CROSS_DOMAIN._replace(statistics=stated.CROSS_DOMAIN.statistics[:2])
    return claim._replace(
        number=f"{claim.number}, longer",
        says=f"{claim.says}; trained five times as long",
        page=few_shot.TABLE1,
        test=lambda records: test(records, tests.LONGER),
        runs=runs,
        headline=claim.headline.replace("convnet4", tests.LONGER),
        stated=told,
        late="stated when the verdict of the shorter runs was known",
    )


def entries(results: Path, page: str | None = None) -> list[Entry]:
    """Apply every test to the records that there are of the runs that it needs."""
    return [
        _entry(claim, load(results, claim.runs), results / "paper")
        for claim in claims()
        if page in (None, claim.page)
    ]


def _entry(claim: Claim, records: Sequence[Record], published: Path) -> Entry:
    planned = _planned(claim)
    paper = claim.paper(published) if claim.paper else None
    if claim.test is None:
        nothing = Finding(claim.says, "no test stated yet", pd.DataFrame())
        return Entry(claim, nothing, nothing.verdict, None, paper, 0)
    of_plan = [r for r in records if (r["experiment"], r["seed"]) in planned]
    check_data(of_plan)
    made = {(r["experiment"], r["seed"]) for r in of_plan}
    finding = claim.test(of_plan)
    how_many = f"({len(made)} of {len(planned)} runs)"
    if made == planned:
        verdict = finding.verdict
    elif finding.verdict.startswith(TOO_FEW):
        verdict = f"not run yet {how_many}{finding.verdict.removeprefix(TOO_FEW)}"
    else:
        verdict = f"{finding.verdict}, so far {how_many}"
    lines = finding.evidence.to_dict("records") if len(finding.evidence) else []
    headline = next((dict(line) for line in lines if line["statistic"] == claim.headline), None)
    if lines and headline is None:
        raise ValueError(f"claim {claim.number}: its test has no statistic {claim.headline!r}")
    if lines and claim.stated:
        _check_evidence(claim, [(str(x["statistic"]), str(x["needed"])) for x in lines])
    return Entry(claim, finding, verdict, headline, paper, len(made))


def _check_evidence(claim: Claim, found: Sequence[tuple[str, str]]) -> None:
    """Raise an error unless the evidence is what was stated; settings without runs may lack."""
    wanted = claim.stated.statistics if claim.stated else ()
    if list(found) != [line for line in wanted if line in found]:
        odd = [line for line in found if line not in wanted] or "the order"
        raise ValueError(f"claim {claim.number}: its evidence is not as stated: {odd}")


def as_data(found: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return the ledger as plain data, as it stands in ``results/claims.json``."""
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
            "test": e.claim.stated.as_data() if e.claim.stated else None,
            "evidence": [
                {str(k): _plain(v) for k, v in line.items()}
                | ({"holds": None} if line["needed"] == NOTHING else {})
                for line in e.finding.evidence.to_dict("records")
            ],
            "runs": [e.done, len(_planned(e.claim))],
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
    """Return the ledger as a table in Markdown."""
    rows = []
    for e in found:
        name = inline(f"{e.claim.number}. {e.claim.says}")
        linked = Markdown(f"[{name}]({link.format(e.claim.page)})") if e.claim.page else name
        rows.append(
            (
                linked,
                e.claim.problem,
                e.verdict,
                _shown(e),
                "–" if e.paper is None else f"{e.paper:.2f}",
            )
        )
    header = ("claim", "tested on", "verdict", "estimate [95 % interval]", "paper")
    return table(header, rows)


def beforehand(found: Sequence[Entry]) -> str:
    """Say which tests were not fixed before anything was known that they are about."""
    late: dict[str, list[str]] = {}
    for e in found:
        if e.claim.late:
            late.setdefault(e.claim.late, []).append(f"*{e.claim.number}*")
    but = "; ".join(f"{', '.join(claims)} ({when})" for when, claims in late.items())
    return f"Tests were fixed beforehand, but for {but}." if but else "Tests were fixed beforehand."


def settings(found: Sequence[Entry]) -> str:
    """Return what each claim was tested in as a table in Markdown, with its number of runs."""
    rows = [
        (
            e.claim.number,
            e.claim.problem,
            setting(e.claim.runs),
            f"{e.done} of {len(_planned(e.claim))}",
        )
        for e in found
        if e.claim.runs
    ]
    return table(("claim", "tested on", "setting", "runs"), rows)


def stated_tests(found: Sequence[Entry]) -> str:
    """Return the test of every claim, run or not, in Markdown: once where it has several lines."""
    parts, seen = [], set()
    for e in found:
        test = e.claim.stated
        if test is None or e.claim.number in seen:
            continue
        seen.add(e.claim.number)
        where = ", ".join(x.claim.problem for x in found if x.claim.number == e.claim.number)
        parts += [
            f"**{e.claim.number}. {e.claim.says} ({where})**",
            table(("statistic", "needed"), test.statistics),
            f"*Supported* if {test.supported}. *Partly supported*: "
            f"{test.partly if test.partly == 'never' else f'if {test.partly}'}. "
            f"A run that diverged: {test.diverged}.",
        ]
    return "\n\n".join(parts)


def evidence(found: Sequence[Entry]) -> str:
    """Return every statistic of every test that could be applied, in Markdown."""
    tested = [
        e.finding._replace(claim=f"{e.finding.claim} ({e.claim.problem})", verdict=e.verdict)
        for e in found
        if len(e.finding.evidence)
    ]
    return verdicts(tested) or "No test could be applied yet."


def power(found: Sequence[Entry]) -> str:
    """Return what the seeds at hand could have shown, as a table in Markdown."""
    rows = []
    for e in found:
        line = e.headline
        if line is None or not math.isfinite(line["low"]):
            continue
        effect = _effect(e)
        spread, seeds = _spread_over_seeds(line), line["seeds"]
        rows.append(
            (
                f"{e.claim.number} ({e.claim.problem})",
                line["statistic"],
                f"±{number(_half(line))} {e.claim.unit}",
                str(seeds),
                "–" if effect is None else f"{effect:.2f}",
                "–" if effect is None else _percent(chance(effect, spread, seeds)),
                "–" if effect is None else _seeds_for(effect, spread),
            )
        )
    header = (
        "claim",
        "statistic",
        "half of the interval",
        "seeds",
        "the paper's effect",
        "chance to see it",
        "seeds for a chance of 80 %",
    )
    return table(header, rows) if rows else "There is no interval yet."


def in_doubt(found: Sequence[Entry]) -> str:
    """Say how likely effects of the paper's size were to be seen where nothing was supported."""
    parts, open_ones = [], []
    for e in found:
        effect, line = _effect(e), e.headline
        if line is None or not e.verdict.startswith("not supported"):
            continue
        if effect is None:
            if math.isfinite(line["low"]):
                open_ones.append(f"- claim {e.claim.number}: {_shown(e)}")
            continue
        seen = chance(effect, _spread_over_seeds(line), line["seeds"])
        parts.append(
            f"- claim {e.claim.number} on {e.claim.problem}: {_percent(seen)} "
            f"({line['statistic']}: {effect:.2f} {e.claim.unit}, interval "
            f"±{number(_half(line))}, {line['seeds']} seeds)"
        )
    paragraphs = [
        "*Not supported* speaks against a claim only as far as the runs could have shown an effect."
    ]
    if parts:
        paragraphs += [
            "If an effect were as large as the paper's, and its spread over seeds what it is here, "
            "its interval would lie above zero with this probability:",
            "\n".join(parts),
            "These numbers are rough: the spread itself comes from as few seeds. They are for the "
            "one statistic named; *supported* asks for more of them at once, and was less likely.",
        ]
    if open_ones:
        paragraphs += [
            "Where no size of the effect is published for equal conditions, only what lies outside "
            "the interval is ruled out:",
            "\n".join(open_ones),
        ]
    return "\n\n".join(paragraphs)


def against(found: Sequence[Entry], number: str) -> str:
    """Say which of the statistics that a verdict rests on lie below zero, interval and all."""
    said = [
        f"{line['statistic']}: {bounds(line['mean'], line['low'], line['high'])}"
        for e in found
        if e.claim.number == number and len(e.finding.evidence)
        for line in e.finding.evidence.to_dict("records")
        if line["high"] < 0 and line["needed"] != NOTHING
    ]
    return f"Below zero, and so against the claim: {'; '.join(said)} points." if said else ""


def nothing_to_prevent(found: Sequence[Entry]) -> str:
    """Say where claim 11 has nothing to show, for MAML does not lose by longer loops."""
    said = []
    for e in found:
        lines = e.finding.evidence.to_dict("records") if len(e.finding.evidence) else []
        for line in lines:
            if line["statistic"] == "loss of MAML" and line["high"] < 0:
                said.append(
                    f"Claim {e.claim.number}: with ten times the inner steps MAML does not lose, "
                    f"it gains {-line['mean']:.2f} [{-line['high']:.2f}, {-line['low']:.2f}] "
                    "points, so there is nothing that sparsity could prevent."
                )
    return " ".join(said)


def chance(effect: float, spread: float, seeds: int) -> float:
    """Return how likely Student's 95 % interval of a mean lies above zero."""
    if spread == 0:
        return float(effect > 0)
    shift = effect * math.sqrt(seeds) / spread
    return float(stats.nct.sf(stats.t.ppf(0.975, seeds - 1), seeds - 1, shift))


def _seeds_for(effect: float, spread: float, wanted: float = 0.8) -> str:
    """Return at how many seeds an effect would be seen with a probability of `wanted`."""
    enough = (n for n in range(2, 1000) if chance(effect, spread, n) >= wanted)
    return str(next(enough, "1000 or more"))


def _effect(entry: Entry) -> float | None:
    """Return the paper's number if it is a difference that the test compares with zero."""
    line = entry.headline
    tested = line is not None and line["needed"].endswith("above 0") and math.isfinite(line["low"])
    return entry.paper if tested else None


def _percent(probability: float) -> str:
    return "over 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"


def _half(line: dict[str, Any]) -> float:
    return (line["high"] - line["low"]) / 2


def _spread_over_seeds(line: dict[str, Any]) -> float:
    """Return the standard deviation over seeds behind an interval."""
    return _half(line) * math.sqrt(line["seeds"]) / stats.t.ppf(0.975, line["seeds"] - 1)


def _planned(claim: Claim) -> set[tuple[str, int]]:
    """Return the runs that a claim needs: experiment and seed."""
    return {(e.name, seed) for e in claim.runs for seed in study.seeds(e)}


def _shown(entry: Entry) -> str:
    line = entry.headline
    if line is None:
        return "–"
    if entry.claim.unit == "p":
        text = f"{line['mean']:.4f}"
    else:
        text = f"{bounds(line['mean'], line['low'], line['high'])} {entry.claim.unit}"
    return f"{line['statistic']}: {text}, {line['seeds']} seeds"


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


def _table1(method: str, reference: str, published: Path) -> float:
    """Return a difference in ResNet-12's column of Table 1; ConvNet-4's has another's MAML."""
    numbers = pd.read_csv(published / "table1.csv").set_index(["network", "shots", "method"])
    accuracy = numbers["accuracy"]
    return float(accuracy["ResNet-12", 5, method] - accuracy["ResNet-12", 5, reference])


def _like_for_like(published: Path, steps: int = 5) -> float:
    """Return the gain of sparse-MAML over the paper's own MAML, both at rate 0.1 (Figure 2)."""
    row = pd.read_csv(published / "fig2_steps.csv").set_index("inner_steps").loc[steps]
    return float(row["sparse_maml_accuracy"] - row["maml_accuracy"])
