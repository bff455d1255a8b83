"""What is planned is shown, what is in the folder is in the book, and any method has a title."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import yaml

from conftest import ROOT
from reproduction.bench import report as bench
from reproduction.plan import few_shot, study
from reproduction.plan import streams as plan
from reproduction.plan.few_shot import of_method
from reproduction.report import figure1 as figures
from reproduction.report import figure2, sparsity_profiles, trained_long
from reproduction.report import la_maml as la_maml_figures
from reproduction.report import mask_overlap as by_problem
from reproduction.report import osaka as osaka_figures
from reproduction.report import plotkit as plotkit_
from reproduction.report import probes as inside_the_loop
from reproduction.report import tables_1_and_2 as paper_tables
from reproduction.runs.experiment import Experiment
from reproduction.runs.osaka import OsakaExperiment
from reproduction.runs.probes import STEPS
from reproduction.runs.streams import ContinualExperiment
from synthetic import LAYER_SIZES, made_up_osaka_record, made_up_record
from synthetic_streams import TENSORS, stream_record

PAPER = ROOT / "results/paper"
Records = Sequence[dict[str, Any]]


def test_every_notebook_is_in_the_book_and_every_page_is_there():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]
    pages = [*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "book").glob("*.md")]
    there = [str(p.relative_to(ROOT).with_suffix("")) for p in pages]
    assert sorted(listed) == sorted(there)


# Every planned run


class Seen(dict):
    """A record that remembers whether its numbers were looked at."""

    looked_at = False

    def __getitem__(self, name: str) -> Any:
        self.looked_at |= name in ("curves", "final", "correct")
        return super().__getitem__(name)


def table_1(records: Records, profile: str) -> None:
    rows = paper_tables.columns_of_table1(PAPER)
    if profile == "study":
        paper_tables.draw_gains(rows, records)
        inside_the_loop.draw_longer_training("", records)
    else:
        paper_tables.draw_gains(paper_tables.rows_of(profile, rows), records, profile)


def table_2(records: Records, profile: str) -> None:
    paper_tables.draw_gains(paper_tables.columns_of_table2(PAPER), records, profile)
    paper_tables.from_omniglot(records)


def rates(records: Records, profile: str) -> None:
    sparsity_profiles.draw_training(study.few_shot(profile, few_shot.LEARNED_RATES), records)
    sparsity_profiles.draw_rates(study.few_shot(profile, few_shot.LEARNED_RATES), records)


def resnets(records: Records, profile: str) -> None:
    sparsity_profiles.draw_training(study.few_shot(profile, few_shot.RESNET12), records)


def features(records: Records, profile: str) -> None:
    inside_the_loop.draw_masks("", records, profile)
    inside_the_loop.draw_movement("", records, profile)


def la_maml(records: Records, profile: str) -> None:
    quoted = la_maml_figures.reported(PAPER)
    la_maml_figures.draw_results("", records, profile, quoted)
    if profile == "study":
        la_maml_figures.slips_table(records)
        for change in la_maml_figures.CHANGED:
            la_maml_figures.changed_table(records, quoted, change)


def sparsity(records: Records, profile: str) -> None:
    la_maml_figures.draw_sparsity("", records, profile)
    la_maml_figures.sparsity_table(records, profile)


PAGES: dict[str, Callable[[Records, str], Any]] = {
    few_shot.FIG1: lambda records, profile: figures.draw_fig1(*figures.fig1("", records)),
    few_shot.FIG2: lambda records, profile: figure2.draw_fig2(figure2.fig2("", records)),
    few_shot.TABLE1: table_1,
    few_shot.TABLE2: table_2,
    few_shot.BY_PROBLEM: lambda records, profile: by_problem.draw_profiles("", records, profile),
    few_shot.LEARNED_RATES: rates,
    few_shot.RESNET12: resnets,
    few_shot.LONGER: lambda records, profile: inside_the_loop.draw_longer("", records, profile),
    few_shot.FEATURES: features,
    few_shot.TRAINED_LONG: lambda records, profile: trained_long.gate_table(records),
    plan.LA_MAML: la_maml,
    plan.SPARSITY: sparsity,
    plan.OSAKA: lambda records, profile: osaka_figures.draw_stream("", records, profile),
}
"""What draws the runs of each page; `study.SPEED` reads its records itself."""

NOT_DRAWN: dict[str, Callable[[str, Any], bool]] = {
    "masks are borrowed from it": lambda page, e: (
        page == few_shot.FEATURES
        and e.name == study.few_shot(e.profile, few_shot.BY_PROBLEM)[-1].name
    ),
    "no MAML to compare it with, it stands in the table of runs": lambda page, e: (
        (page, e.profile) == (few_shot.TABLE1, "quick") and e.network == "resnet12"
    ),
    "it changes one thing and stands on the page of La-MAML": lambda page, e: (
        page == plan.SPARSITY and e.name.endswith(tuple(f"-{change}" for change in plan.CHANGES))
    ),
}
"""Planned runs of a page that it does not draw, by the reason."""


def made_up(e: Any) -> Seen:
    if isinstance(e, OsakaExperiment):
        return Seen(made_up_osaka_record(e, 0, around=[0.5] * 31))
    if isinstance(e, ContinualExperiment):
        frozen = {n: [1, 2] for n in TENSORS}
        return Seen(stream_record(e, 0, frozen=frozen if e.learner in plan.WITH_RATES else None))
    assert isinstance(e, Experiment)
    record = made_up_record(e.name, 0)
    record |= {"profile": e.profile, "parameters": e.parameters()}
    if e.network == "resnet12":
        names = sparsity_profiles.kernels(sparsity_profiles._tensors(e))
        record["tensors"] = dict.fromkeys(names, 10)
        record["curves"]["frozen"] = {n: [5] * 8 for n in names}
    steps = [f"steps/{k * e.inner_steps}" for k in STEPS]
    inside = [f"movement/{n.partition('.')[0]}" for n in LAYER_SIZES]
    asked = [*steps, *inside, *inside_the_loop.COSINES, "masks/own", *e.probes]
    record["final"]["probes"] = {n: {"mean": 0.5, "low": 0, "high": 1, "n": 9} for n in asked}
    return Seen(record)


PLANNED = [(p, page) for p in ("quick", "study") for page in study.FIGURES[p]]


@pytest.mark.parametrize(("profile", "page"), [x for x in PLANNED if x[1] != study.SPEED])
def test_every_planned_run_is_drawn(profile, page):
    planned = study.experiments(profile, page)
    records = [made_up(e) for e in planned]
    PAGES[page](records, profile)
    missing = {r.get("experiment") for r in records if not r.looked_at}
    excused = {e.name for e in planned for rule in NOT_DRAWN.values() if rule(page, e)}
    assert missing <= excused


def test_every_run_in_bf16_is_in_the_table():
    text = bench.in_bf16(ROOT / "nowhere")
    for e in study.few_shot("study", study.SPEED):
        assert f"`{e.name.removesuffix('-bf16')}`" in text


# Methods that no table knows


def texts(figure: Any) -> str:
    return "\n".join(t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")))


@pytest.fixture
def a_new_method(monkeypatch):
    """Table 1 of the quick profile with a run whose name no table of titles has."""
    (base,) = [
        e for e in study.few_shot("quick", few_shot.TABLE1) if e.name == "convnet4-5shot-maml"
    ]
    new = of_method(base, "sparse-maml", name="convnet4-5shot-brand-new")
    runs = [*study.few_shot("quick", few_shot.TABLE1), new]
    monkeypatch.setitem(study.FIGURES["quick"], few_shot.TABLE1, runs)
    return new


def test_a_new_method_is_in_table_1_and_its_figure(a_new_method):
    rows = paper_tables.rows_of("quick", paper_tables.columns_of_table1(PAPER))
    drawn = texts(paper_tables.draw_gains(rows, [], "quick"))
    assert "brand-new" in drawn
    record = made_up(a_new_method)
    paper_tables.draw_gains(rows, [record], "quick")
    assert record.looked_at


def test_unknown_methods_have_their_own_names_and_any_colour():
    for looks in (plotkit_.METHODS, la_maml_figures.LOOKS, osaka_figures.LOOKS):
        colours = {looks[f"method {i}"].rgb for i in range(40)}
        assert 1 < len(colours) <= 10
        assert looks["new"].name == "new"
        assert looks["new"] == looks["new"]
        assert all(look.rgb for look in looks.values())
        known = list(looks)
        assert sorted([*reversed(known), "new"], key=looks.place) == [*known, "new"]


def test_an_inner_loop_of_a_new_method_is_looked_into():
    e = study.few_shot("quick", few_shot.TABLE1)[0].replace(name="new", probes=("steps",))
    object.__setattr__(e, "method", "new")
    assert list(inside_the_loop._methods([e], "steps")) == ["new"]


def test_a_new_learner_of_a_stream_is_drawn(monkeypatch):
    runs = study.experiments("quick", plan.LA_MAML)
    (first, *_) = (e for e in runs if isinstance(e, ContinualExperiment))
    new = first.replace(name=f"{first.stream}-new")
    object.__setattr__(new, "learner", "new")
    monkeypatch.setitem(study.FIGURES["quick"], plan.LA_MAML, [new, *runs])
    assert "\nnew\n" in texts(la_maml_figures.draw_results("", [], "quick"))


def test_a_new_learner_of_osaka_is_drawn(monkeypatch):
    runs = study.experiments("quick", plan.OSAKA)
    new = next(
        e for e in runs if isinstance(e, OsakaExperiment) and e.learner == "sparse-c-maml"
    ).replace(name="osaka-always")
    object.__setattr__(new, "learner", "c-maml-always")
    monkeypatch.setitem(study.FIGURES["quick"], plan.OSAKA, [*runs, new])
    records = [made_up(e) for e in (*runs, new)]
    assert "c-maml-always" in texts(osaka_figures.draw_stream("", records, "quick"))


def test_changes_of_one_thing_have_a_table():
    assert {*la_maml_figures.SLIPS, *la_maml_figures.CHANGED} == set(plan.CHANGES)
    cells = json.loads((ROOT / "notebooks/continual_la_maml.ipynb").read_text())["cells"]
    code = "".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    assert all(f'quoted, "{change}")' in code for change in la_maml_figures.CHANGED)


# Figure 2


def of_figure_2(planned: str, seed: int = 0, **changes: Any) -> dict[str, Any]:
    e = study.find_few_shot("study", planned).replace(**changes)
    return made_up_record(e.name, seed) | {"parameters": e.parameters()}


def test_figure_2_names_what_it_cannot_place():
    records = [of_figure_2(e.name) for e in study.few_shot("study", few_shot.FIG2)]
    maml = "fig2-miniimagenet-maml"
    records.append(of_figure_2(maml, name="corner", inner_rate=0.5, inner_steps=1))
    records.append(of_figure_2(maml, name="other", method="anil"))
    row = figure2.fig2("", records)
    assert row.stamp.endswith("not drawn: corner, other")


def test_two_runs_of_one_place_are_refused():
    records = [
        of_figure_2("fig2-miniimagenet-sparse-maml"),
        of_figure_2("fig2-miniimagenet-sparse-maml", name="changed", init_sparsity=0.2),
    ]
    with pytest.raises(ValueError, match=r"changed seed 0 .* same"):
        figure2.runs(records)
