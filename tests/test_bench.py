"""The benchmark: all forms compute the same, and its result is kept, checked and shown."""

import copy
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from reproduction.bench import accuracy, cost, forms, measure, plots, report, results
from reproduction.bench.cases import CASES, FewShot
from reproduction.bench.ceiling import (
    convolutions,
    forward_backward_flops,
    make_convolutions,
    task_flops,
)
from reproduction.bench.peers import Unavailable
from reproduction.bench.results import Spread
from reproduction.bench.usual import Usual, usual_network
from reproduction.runs.statistics import t_interval
from synthetic import made_up_record

ROOT = Path(__file__).parents[1]
COMMITTED = sorted((ROOT / "results" / "bench").glob("*.json"))
TINY = FewShot(
    name="convnet4-28-k5",  # a known name, other numbers
    title="ConvNet-4, 16 px, 4 channels, K = 2",
    image_size=16,
    channels=1,
    width=4,
    ways=3,
    shots=1,
    queries=2,
    steps=2,
    seconds=0,
    rounds=2,
)


@pytest.mark.parametrize("network", ["convnet4", "resnet12"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [n for n, c in forms.FEW_SHOT.items() if c.exact])
def test_forms_compute_the_same_meta_gradient(name, channels, network):
    case = dataclasses.replace(TINY, network=network, channels=channels)
    try:
        assert forms.difference(name, case) < measure.TOLERANCE
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("name", forms.contenders(CASES["la-maml"]))
def test_forms_of_la_maml_compute_the_same_meta_gradient(name):
    assert forms.difference(name, CASES["la-maml"]) < measure.TOLERANCE


def test_a_form_that_computes_something_else_is_not_timed(monkeypatch):
    class Unmasked(Usual):
        """Moves the frozen weights, too."""

        def __init__(self, case, problem):
            super().__init__(case, problem)
            with torch.no_grad():
                for m in self.rule_params.values():
                    m.abs_()

    monkeypatch.setitem(forms.FEW_SHOT, "wrong", forms.Contender("wrong", Unmasked))
    apart = forms.difference("wrong", TINY)
    assert apart > 1e-3
    judged = measure.judge("wrong", {"difference": apart}, TINY)
    assert judged["status"] == "different"
    assert measure.judge("wrong", {"difference": float("nan")}, TINY)["status"] == "different"


def test_operations_are_those_of_the_layers():
    case = dataclasses.replace(TINY, image_size=28, width=32)
    sides, channels = (28, 14, 7, 3), (1, 32, 32, 32)
    forward = [2 * 9 * c * 32 * side**2 for side, c in zip(sides, channels, strict=True)]
    head = 2 * 32 * case.ways
    image = 3 * (sum(forward) + head) - forward[0]  # no gradient for the images
    assert forward_backward_flops(case) == image
    assert task_flops(case) == image * (2 * 3 * 1 + 3 * 2)  # K supports and a query


@pytest.mark.parametrize("network", ["convnet4", "resnet12"])
def test_convolutions_alone_are_the_operations_they_are_charged_with(network):
    case = dataclasses.replace(TINY, network=network, channels=3, image_size=20)
    run = make_convolutions(case)
    with FlopCounterMode(display=False) as counter:
        run()
    charged = sum(c.flops for c in convolutions(case))
    assert counter.get_total_flops() == charged
    head = 3 * 2 * usual_network(case).get_parameter("output.weight").numel()
    images = case.ways * case.shots
    assert charged == images * (forward_backward_flops(case) - head)


@pytest.mark.slow
def test_contenders_take_turns_in_processes_of_their_own(tmp_path, monkeypatch):
    (tmp_path / "higher.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    case = measure.measure_case(TINY, ["usual", "higher", "library"])
    usual, higher, library = case["contenders"]
    assert higher["status"] == "unavailable"
    assert "not here" in higher["reason"]
    assert usual["speedup"] == {"median": 1, "low": 1, "high": 1, "rounds": TINY.rounds}
    assert library["rate"]["rounds"] == TINY.rounds
    assert 0 < library["difference"] < measure.TOLERANCE
    assert set(case["ceiling"]) == {"product-float32", "product-bf16", "convolutions"}
    memory = measure.memory_growth(TINY, (1, 3), ["library"])
    assert len(memory[0]["peak_mb"]) == 2
    gain = measure.two_processes(TINY, 1)
    assert gain["gain"]["rounds"] == 1
    profile = measure.profile(TINY)
    assert sum(profile["shares"].values()) == pytest.approx(1, abs=0.01)
    assert min(profile["shares"].values()) > 0
    parts = {
        "load_before": 0.0,
        "quick": True,
        "cases": [case],
        "memory": memory,
        "profiles": [profile],
        "two_processes": [gain],
    }
    assert "all else" in report.full(results.complete(parts, wall_seconds=1.0))


def spread(value):
    return Spread.of([value]).as_json()


@pytest.fixture
def result():
    """Return a result with round numbers and a peer that is missing."""
    usual, library = (
        {
            "contender": name,
            "title": title,
            "status": "measured",
            "difference": 0.0,
            "exact": True,
            "rate": spread(rate),
            "speedup": spread(rate / 8),
            "peak_mb": 100.0,
            "share_of_product": spread(rate / 40),
        }
        for name, title, rate in (("usual", "usual form", 8), ("library", "this library", 20))
    )
    higher = {"contender": "higher", "title": "higher", "status": "unavailable", "reason": "gone"}
    case = {
        "case": "convnet4-28-k5",
        "title": "ConvNet-4, 28 px, 32 channels, K = 5",
        "unit": "task",
        "gflop_per_unit": 3.0,
        "ceiling": {n: spread(90) for n in ("product-float32", "product-bf16", "convolutions")},
        "contenders": [usual, higher, library],
    }
    memory = {"case": "a", "title": "A", "contender": "library", "steps": [1, 35]}
    gain = {"case": "a", "title": "A", "gain": spread(1.9)}
    parts = {
        "load_before": 0.3,
        "quick": True,
        "cases": [case],
        "memory": [memory | {"peak_mb": [100.0, 102.5]}],
        "two_processes": [gain],
    }
    return results.complete(parts, wall_seconds=1.0)


def test_result_is_kept_as_it_was(result, tmp_path):
    path = tmp_path / "bench" / "processor.json"
    results.write(path, result)
    assert results.read(path) == result
    assert results.latest(path.parent) == result


@pytest.mark.parametrize(
    ("where", "value", "place"),
    [
        (("cases", 0, "contenders", 0, "rate", "median"), "fast", "contenders/0"),
        (("cases", 0, "contenders", 1, "status"), "measured", "contenders/1"),
        (("machine", "cores"), 0, "machine/cores"),
        (("schema_version",), 2, "schema_version"),
        (("comment",), "new", "top level"),
    ],
)
def test_a_result_that_breaks_the_schema_is_refused(result, tmp_path, where, value, place):
    broken = copy.deepcopy(result)
    *parents, last = where
    part = broken
    for key in parents:
        part = part[key]
    part[last] = value
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(broken))
    with pytest.raises(results.ResultError, match=rf"broken\.json: .*{place}"):
        results.read(path)


@pytest.mark.parametrize("text", ["{", "[" * 100_000])
def test_what_is_no_result_says_so(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(results.ResultError, match="not JSON"):
        results.read(tmp_path / "a.json")
    with pytest.raises(FileNotFoundError, match="make bench"):
        results.latest(tmp_path / "nowhere")


def test_report_shows_what_is_missing(result):
    text = report.full(result)
    assert "A short trial" in text
    assert "| higher | unavailable: gone |" in text
    assert (
        "| this library | 20 [20, 20] | 2.50 [2.50, 2.50] | 50 [50, 50] % | 100 | 0e+00 |" in text
    )
    assert "K = 1: 100, K = 35: 102 | +2.5 % |" in text
    labels = [t.get_text() for t in plots.draw(result).axes[0].get_yticklabels()]
    assert labels == ["usual form", "this library"]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.name)
def test_committed_result_is_a_measurement_and_can_be_shown(path):
    result = results.read(path)
    assert not result["quick"]
    assert {c["case"] for c in result["cases"]} == set(CASES)
    assert path.stem == results.slug(result["machine"]["processor"])
    assert all(case["title"] in report.full(result) for case in result["cases"])
    assert len(plots.draw(result).axes) >= len(CASES)


def test_targets_are_met_where_the_numbers_say_so():
    row = {"contender": "library", "status": "measured", "speedup": spread(3.1)}
    parts = {
        "cases": [{"case": "convnet4-84-k5", "contenders": [row]}],
        "memory": [
            {"title": "a", "contender": "library", "steps": [1, 35], "peak_mb": [100, 104]},
            {"title": "b", "contender": "library", "steps": [1, 35], "peak_mb": [100, 106]},
            {"title": "c", "contender": "usual", "steps": [1, 35], "peak_mb": [100, 200]},
        ],
        "two_processes": [{"title": "d", "gain": spread(1.8)}],
    }
    found = {t.what: t.met for t in results.targets(parts)}
    assert found["84 px: times as fast as the usual form"] is True
    assert found["28 px: times as fast as the usual form"] is None
    assert found["a: memory at K = 35 over that at K = 1"] is True
    assert found["b: memory at K = 35 over that at K = 1"] is False
    assert not any(what.startswith("c") for what in found)
    assert found["d: two processes over one"] is False


def test_spread_is_median_and_quartiles():
    assert Spread.of([4, 1, 2, 3, 5]) == (3, 2, 4, 5)
    assert Spread.of([4, 1, 2]) == (2, 1, 4, 3), "of few rounds, the extremes"


def test_cost_of_a_profile_is_that_of_its_runs():
    from reproduction.plan import study

    experiments = {e.name: e for e in study.few_shot("smoke")}
    runs = [r for r in study.plan("smoke") if r.experiment in experiments]
    shares = cost.shares("smoke")
    assert sum(s.runs for s in shares) == len(runs) > 0
    assert cost.total_flops("smoke") == pytest.approx(
        sum(experiments[r.experiment].flops() for r in runs)
    )
    assert sum(s.evaluation for s in shares) == sum(
        experiments[r.experiment].episodes().evaluation for r in runs
    )
    # smoke: 2 updates, validated at 0, 1 and 2 on 2 episodes, tested on 3
    assert study.find_few_shot("smoke", "fig1-glyphs-maml").episodes().evaluation == 3 * 2 + 3
    # and 11 adaptations more on each of the 3: a loop of 10 K steps, and one of K
    probed = study.find_few_shot("smoke", "convnet4-5shot-maml")
    assert probed.probes == ("steps", "movement", "interference")
    assert probed.episodes().evaluation == 3 * 2 + 3 + 3 * (10 + 1)


def test_times_follow_from_rate_and_operations():
    case = {
        "case": "convnet4-84-k5",
        "title": "a case",
        "gflop_per_unit": 100.0,
        "ceiling": {},
        "contenders": [
            {"contender": "library", "status": "measured", "rate": {"median": 0.5}},
        ],
    }
    result = {"cases": [case], "machine": {"processor": "a processor"}}
    assert cost.benchmark_rates(result) == {"a case": 50.0}
    text = cost.times("paper", result, 0.5)
    assert cost.duration(cost.total_flops("paper") / 50e9) in text
    t4 = cost.ACCELERATORS[0]
    assert cost.duration(cost.total_flops("paper") / (0.5e12 * t4.teraflops)) in text
    with pytest.raises(ValueError, match="utilisation"):
        cost.times("paper", result, 0)


def test_cost_of_a_page_is_that_of_its_runs(monkeypatch):
    from reproduction.plan import study

    base = study.find_few_shot("paper", "fig1-miniimagenet-maml")
    runs = [base.replace(name=name, figure="a") for name in ("one", "two")]
    pages = {"a": runs, "b": [runs[1], base.replace(name="three", figure="b")]}
    monkeypatch.setitem(study.FEW_SHOT_FIGURES, "paper", pages)
    monkeypatch.setitem(study.FIGURES, "paper", pages)
    text = cost.of_page("a")
    assert "the 2 experiments of this page are 10 runs (5 of them are shown on other pages" in text
    hours = 10 * base.flops() / 3600
    for rate in (30e9, 0.1 * 19.5e12):
        assert f" {float(f'{hours / rate:.2g}'):,g} hours on one " in text


def test_every_page_with_the_papers_settings_says_what_they_cost():
    from reproduction.plan import study

    notebooks = Path(__file__).parents[1] / "notebooks"
    for figure in study.FEW_SHOT_FIGURES["paper"]:
        cells = json.loads((notebooks / f"{figure}.ipynb").read_text(encoding="utf-8"))["cells"]
        code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
        assert code.count("Markdown(cost.of_page(FIGURE))") == 1, figure
        assert "layers.paper_records(FIGURE)" in "\n".join(code), figure


def test_rate_of_a_run_is_operations_over_time():
    from reproduction.plan import study

    experiment = study.few_shot("smoke")[0]
    record = {
        "experiment": experiment.name,
        "status": "finished",
        "provenance": {"wall_seconds": 2.0},
    }
    diverged = record | {"status": "diverged"}
    (rate,) = cost.record_rates([record, diverged], [experiment])
    assert rate == pytest.approx(experiment.flops() / 2e9)


def test_a_run_on_two_pages_counts_once():
    runs = [made_up_record("a", seed) for seed in (0, 1, 0)]
    for r in runs:
        r["provenance"] = {"wall_seconds": 1800.0, "input_seconds": 9.0 + 9 * r["seed"]}
    assert cost.spent({"few-shot": runs, "continual": []}).splitlines()[2:] == [
        "| few-shot | 2 | 1.0 |",
        "| continual | 0 | 0.0 |",
    ]
    assert "median of 2 runs; at most 1.00%" in cost.waiting(runs)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(30, "30 seconds"), (7200, "2 hours"), (4e5, "4.6 days")]
)
def test_duration(seconds, shown):
    assert cost.duration(seconds) == shown


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ((-0.02, -0.03, -0.02), "a significant loss"),
        ((-0.02, 0.03, 0.01), "no significant loss"),
        ((0.02, 0.03, 0.02), "no significant loss"),
    ],
)
def test_accuracy_in_bf16_is_compared_pair_by_pair(monkeypatch, change, verdict):
    """Seeds 1 to 3 have both precisions; 0 and 4 have one."""

    def load(results, experiments):
        (experiment,) = experiments
        if experiment.precision == "float32":
            return [made_up_record(experiment.name, s, accuracy=0.4 + 0.1 * s) for s in range(4)]
        found = {s: 0.4 + 0.1 * s + c for s, c in zip((1, 2, 3), change, strict=True)} | {4: 0.1}
        return [made_up_record(experiment.name, s, accuracy=a) for s, a in found.items()]

    monkeypatch.setattr(accuracy, "load", load)
    text = accuracy.in_bf16("nowhere")
    assert "| all pairs | 6 |" in text
    assert f"**{verdict}**" in text
    lowest = t_interval([100 * c for c in change]).low
    alone = f"a loss of up to {-lowest:.1f} points with `fig2-miniimagenet-maml` and"
    assert (alone in text) == (lowest < 0)
    monkeypatch.setattr(accuracy, "load", lambda results, experiments: [])
    assert "significant" not in accuracy.in_bf16("nowhere")
