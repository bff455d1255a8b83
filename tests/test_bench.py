"""The benchmark: all forms compute the same, and its result is kept, checked and shown."""

import dataclasses
import functools
import json
import operator
from pathlib import Path

import msgspec
import pytest
import torch

from reproduction.bench import cost, forms, measure, report, result
from reproduction.bench.cases import CASES, FewShot
from reproduction.bench.result import Spread
from reproduction.plan import study

ROOT = Path(__file__).parents[1]
COMMITTED = sorted((ROOT / "results" / "bench").glob("*.json"))
USUAL = CASES["convnet4-28-k5"]
assert isinstance(USUAL, FewShot)
TINY = dataclasses.replace(  # a known name, other numbers
    USUAL,
    title="ConvNet-4, 16 px, 4 channels, K = 2",
    image_size=16,
    width=4,
    ways=3,
    shots=1,
    queries=2,
    tasks=1,
    steps=2,
    seconds=0,
    rounds=2,
    repeats=1,
)


@pytest.mark.parametrize("network", ["convnet4", "resnet12"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [n for n, c in forms.FEW_SHOT.items() if c.exact])
def test_forms_compute_the_same_meta_gradient(name, channels, network):
    case = dataclasses.replace(TINY, network=network, channels=channels)
    try:
        assert forms.difference(name, case) < forms.TOLERANCE
    except forms.Unavailable as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("name", forms.titles(CASES["la-maml"]))
def test_forms_of_la_maml_compute_the_same_meta_gradient(name):
    assert forms.difference(name, CASES["la-maml"]) < forms.TOLERANCE


def test_a_form_that_computes_something_else_is_not_timed(monkeypatch):
    class Unmasked(forms.Form):
        """Moves the frozen weights, too."""

        def __init__(self, case, problem):
            super().__init__(case, problem)
            with torch.no_grad():
                for m in self.rule_params.values():
                    m.abs_()

    monkeypatch.setitem(forms.FEW_SHOT, "wrong", forms.Contender("wrong", Unmasked))
    measured = measure.measure_case(TINY, ["usual", "wrong"])
    assert [c.status for c in measured.contenders] == ["measured", "different"]


def test_operations_are_those_of_the_layers():
    case = dataclasses.replace(TINY, image_size=28, width=32)
    sides, channels = (28, 14, 7, 3), (1, 32, 32, 32)
    forward = [2 * 9 * c * 32 * side**2 for side, c in zip(sides, channels, strict=True)]
    head = 2 * 32 * case.ways
    image = 3 * (sum(forward) + head) - forward[0]  # no gradient for the images
    assert measure.task_flops(case) == image * 3 * (2 * 1 + 2)  # K supports and a query


@pytest.mark.slow
def test_contenders_take_turns_in_processes_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setitem(CASES, TINY.name, TINY)
    monkeypatch.setitem(measure.GROWTH, TINY.name, (1, 3))
    monkeypatch.setitem(measure.SIDE_BY_SIDE, TINY.name, 1)
    whole = result.complete(measure.measure([TINY], True, print), wall_seconds=1.0)
    rows = {c.contender: c for c in whole.cases[0].contenders}
    assert rows["usual"].speedup == Spread(1, 1, 1, TINY.rounds)
    assert rows["library"].rate is not None
    assert rows["library"].rate.rounds == TINY.rounds
    assert [len(m.peak_mb) for m in whole.memory] == [2, 2]
    result.write(tmp_path / "a.json", whole)
    assert result.latest(tmp_path) == whole
    assert "A short trial" in report.full(whole)


@pytest.fixture
def committed():
    return json.loads(COMMITTED[0].read_text())


@pytest.mark.parametrize(
    ("where", "value", "place"),
    [
        (("cases", 0, "contenders", 0, "rate", "median"), "fast", "rate.median"),
        (("cases", 0, "contenders", 1, "status"), "gone", "status"),
        (("cases", 0, "contenders", 1, "status"), "different", "no reason"),
        (("machine", "cores"), 0, "machine.cores"),
        (("schema_version",), 2, "schema_version"),
        (("comment",), "new", "comment"),
    ],
)
def test_a_result_that_breaks_the_schema_is_refused(committed, tmp_path, where, value, place):
    *parents, last = where
    functools.reduce(operator.getitem, parents, committed)[last] = value
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(committed))
    with pytest.raises(result.ResultError, match=rf"broken\.json: .*{place}"):
        result.read(path)


def test_what_is_no_result_says_so(tmp_path):
    for text in ("{", "[" * 100_000):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(result.ResultError, match=r"a\.json"):
            result.latest(tmp_path)
    with pytest.raises(FileNotFoundError, match="make bench"):
        result.latest(tmp_path / "nowhere")


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.name)
def test_committed_result_is_a_measurement_and_can_be_shown(path):
    committed = result.read(path)
    assert not committed.quick
    assert {c.case for c in committed.cases} <= set(CASES)
    assert path.stem == result.slug(committed.machine.processor)
    assert all(case.title in report.full(committed) for case in committed.cases)
    panels = [ax for ax in report.draw(committed).axes if ax.get_visible()]
    assert len(panels) == len(committed.cases)


def test_targets_are_met_where_the_numbers_say_so(committed):
    whole = msgspec.convert(committed, result.Result)
    met = {t.what: t.met for t in result.targets(whole)}
    assert {t["what"]: t["met"] for t in committed["targets"]} == met
    assert set(met.values()) == {True, False}
    whole.memory[1].peak_mb = [100, 106]
    assert result.targets(whole)[7].met is False
    assert {t.met for t in result.targets(msgspec.structs.replace(whole, cases=[]))[:7]} == {None}


def test_cost_of_a_profile_is_that_of_its_runs():
    experiments = {e.name: e for e in study.few_shot("smoke")}
    runs = [experiments[r.experiment] for r in study.plan("smoke") if r.experiment in experiments]
    last = cost.work("smoke").splitlines()[-1].split(" | ")
    evaluation = sum(e.episodes().evaluation for e in runs)
    assert last[1:3] == [str(len(experiments)), str(len(runs))]
    assert last[4] == f"{evaluation:,}"
    assert f"{float(f'{sum(e.flops() for e in runs) / 1e15:.3g}'):,g}" == last[5]
    # 2 updates, validated at 0, 1 and 2 on 2 episodes, tested on 3; probed: 11 more on each test
    for name, probes in (("fig1-glyphs-maml", 0), ("convnet4-5shot-maml", 3 * (10 + 1))):
        evaluation = study.find_few_shot("smoke", name).episodes().evaluation
        assert evaluation == 3 * 2 + 3 + probes
