"""The command line: what it prints, what it returns, and no traceback for a user's mistake."""

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest
import torch

from reproduction import cli
from reproduction.plan import study
from reproduction.plan.change import changed, read_changes
from reproduction.runs import few_shot as training
from reproduction.runs import records
from synthetic import image_set, made_up_record
from wheretolearn import data
from wheretolearn.meta import pick_device

SMALL = ["network=mlp", "image_size=8", "ways=3", "width=8"]


@pytest.fixture
def wheretolearn(monkeypatch, capsys, tmp_path):
    """Run the command in a folder of its own, on small images; return status, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "load", lambda name, size, root=None: image_set())

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["wheretolearn", *map(str, arguments)])
        try:
            cli.main()
            status: object = 0
        except SystemExit as end:
            status = end.code
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return call


def run_smoke(call, *more):
    name = "fig1-glyphs-sparse50"
    return call("run", name, "--profile", "smoke", "--change", *SMALL, "--no-progress", *more)


def test_run_with_changes_then_record(wheretolearn, tmp_path):
    status, out, err = run_smoke(wheretolearn, "--seed", 1, "--device", "cpu")
    assert (status, err) == (0, "")
    name = "+".join(["fig1-glyphs-sparse50", *sorted(SMALL)])
    path = tmp_path / "results/smoke" / name / "seed1.json"
    record = records.read(path)
    assert record["parameters"]["width"] == 8
    assert (record["experiment"], record["seed"]) == (name, 1)
    assert f"{name} (profile smoke), seed 1" in out
    assert f"{record['final']['test_accuracy']['mean']:.1%} on 3 test episodes" in out
    assert wheretolearn("record", path)[:2] == (0, out)
    status, full, _ = wheretolearn("record", path, "--full")
    assert json.loads(full) == record
    before = path.stat().st_ino  # a record that is written again is another file
    assert run_smoke(wheretolearn, "--seed", 1)[1] == out  # the record is used again
    assert path.stat().st_ino == before
    assert run_smoke(wheretolearn, "--seed", 1, "--fresh")[0] == 0
    assert path.stat().st_ino != before


@pytest.mark.parametrize(
    ("name", "changes", "again"),
    [
        ("fig1-glyphs-sparse50", ["width=8", "updates=3"], ["updates=3", "width=8"]),
        ("fig1-glyphs-sparse50", ["inner_rate=0.25"], ["inner_rate=25e-2"]),
        ("fig1-glyphs-sparse50", ["inner_rate=2"], ["inner_rate=2.0"]),
        ("fig1-glyphs-sparse50", ["network=mlp"], ['network="mlp"']),
        ("fig1-glyphs-sparse50", ["width=9", "width=8"], ["width=8"]),
        (
            "glyph-rotations-la-maml",
            ['settings={"memory":7,"glances":2}'],
            ['settings={"glances": 2, "memory": 7}'],
        ),
        ("fig1-glyphs-sparse50", ["rule_rate=1e308"], ["rule_rate=1.0e308"]),
        (
            "glyph-rotations-la-maml",
            ['settings={"inner_rate":1}'],
            ['settings={"inner_rate":1.0}'],
        ),
    ],
)
def test_one_change_has_one_name(name, changes, again):
    """Else one run would have two records."""
    experiment = study.find("smoke", name)
    one, other = (changed(experiment, read_changes(c)) for c in (changes, again))
    assert one == other
    assert one.name != experiment.name
    assert len(one.name) < 100


def test_list(wheretolearn, tmp_path):
    status, out, _ = wheretolearn("list", "--profile", "smoke")
    assert status == 0
    plan = study.plan("smoke")
    lines = out.splitlines()
    assert len(lines) == len(plan) + 1
    assert all("not run" in line for line in lines[:-1])
    assert lines[-1].startswith("left: about")
    for line, run in zip(lines, plan, strict=False):
        assert line.split()[:3] == [run.experiment, "seed", str(run.seed)]
    # one finished, one diverged, one of other parameters
    states: list[dict[str, Any]] = [
        {},
        {"status": "diverged", "diverged_at": 1},
        {"width": 5},
    ]
    for number, changes in enumerate(states):
        run = plan[number]
        experiment = study.find("smoke", run.experiment)
        made = made_up_record(run.experiment, run.seed)
        made |= {"parameters": json.loads(json.dumps(experiment.parameters())), "profile": "smoke"}
        (made["parameters"] if "width" in changes else made).update(changes)
        records.write(tmp_path / run.record, made)
    _, out, _ = wheretolearn("list", study.FIG1, "--profile", "smoke")
    assert [line.split()[-1] for line in out.splitlines()[:3]] == [
        "finished",
        "diverged",
        "outdated",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run fig1-glyphs-sparse55 --profile smoke", "did you mean 'fig1-glyphs-"),
        ("run fig1-glyphs-maml --profile smokee", "unknown profile 'smokee'; did you mean 'smoke'"),
        ("list fig1_sparsity", "unknown figure 'fig1_sparsity'; did you mean"),
        ("list --profile studdy", "did you mean 'study'"),
        ("data show glyfs", "did you mean 'glyphs'"),
        ("data prepare", "prepare needs the name of a data set"),
        ("record absent.json", "No such file"),
        ("record .", "Is a directory"),
        ("record broken.json", "broken.json: not JSON"),
        ("record binary.json", "binary.json: not JSON"),
        ("record old.json", "schema version 0"),
        ("record /dev/full", "/dev/full: not a file"),
        ("record kind.json", "a record of kind"),
    ],
)
def test_mistakes_are_told_in_a_line(wheretolearn, tmp_path, arguments, message):
    (tmp_path / "broken.json").write_text('{"schema_version": 1,')
    (tmp_path / "kind.json").write_text('{"schema_version": 1, "kind": ["a"]}')
    (tmp_path / "binary.json").write_bytes(b'{"schema_version": "\xff"}')
    (tmp_path / "old.json").write_text('{"schema_version": 0}')
    status, out, err = wheretolearn(*arguments.split())
    assert status == 1
    assert out == ""
    assert err.startswith("wheretolearn: ")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("widht=8", "no parameter 'widht'; did you mean 'width'"),
        ("width", "a change is written name=value, got 'width'"),
        ("width=eight", "width must be of type int, got 'eight'"),
        ("name=other", "name and profile cannot be changed"),
        ("profile=study", "name and profile cannot be changed"),
        ("data=../../elsewhere", "cannot hold '/'"),
        ("ways=9", "split 'val' of glyphs has 5"),
        ("image_size=4", "halves images four times"),
        ("width=" + "[" * 100_000, "width must be of type int"),
    ],
)
def test_wrong_changes_are_told_in_a_line(wheretolearn, change, message):
    command = ["run", "fig1-glyphs-sparse50", "--profile", "smoke", "--no-progress", "--change"]
    status, _, err = wheretolearn(*command, change)
    assert status == 1
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("device", ["gpu", "meta", "hpu", "cuda:99", "mps:1"])
def test_a_device_that_is_not_there_is_told_in_a_line(wheretolearn, device):
    status, _, err = run_smoke(wheretolearn, "--device", device)
    assert status == 1
    assert re.fullmatch(f"wheretolearn: .*device '{device}'.*\n", err)


def test_a_device_that_torch_finds_is_used(monkeypatch):
    """Whatever its kind."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("xpu"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert pick_device("xpu:1") == torch.device("xpu:1")
    for other in ("xpu:2", "mps"):
        with pytest.raises(ValueError, match=f"'{other}' was asked for"):
            pick_device(other)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_wrong_seed_is_told_in_a_line_and_leaves_nothing(wheretolearn, tmp_path, seed):
    status, _, err = run_smoke(wheretolearn, "--seed", seed)
    assert status == 1
    assert re.fullmatch("wheretolearn: a seed is .*\n", err)
    assert list(tmp_path.iterdir()) == []


def test_what_no_memory_holds_is_told_in_a_line(wheretolearn, monkeypatch):
    """A width of a thousand million, without trying it."""

    def build(experiment):
        torch.empty(2**60)

    monkeypatch.setattr(training.Experiment, "build_network", build)
    status, _, err = run_smoke(wheretolearn)
    assert status == 1
    assert re.fullmatch("wheretolearn: too large for this machine: .*\n", err)


def test_a_programming_error_keeps_its_traceback(wheretolearn, monkeypatch):
    def build(experiment):
        raise RuntimeError("a bug")

    monkeypatch.setattr(training.Experiment, "build_network", build)
    with pytest.raises(RuntimeError, match="a bug"):
        run_smoke(wheretolearn)


def test_a_run_without_an_output_is_a_run(wheretolearn, monkeypatch, tmp_path):
    """As after ``>&-``."""
    monkeypatch.setattr(sys, "stdout", None)
    assert run_smoke(wheretolearn)[0] == 0
    assert len(list(tmp_path.glob("results/smoke/*/seed0.json"))) == 1


def test_a_reader_that_has_seen_enough_ends_the_program(tmp_path):
    """As ``| head`` does."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "reproduction", "list", "--profile", "smoke"],
        cwd=tmp_path,
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_unknown_options_and_help(wheretolearn):
    assert wheretolearn("run", "fig1-glyphs-maml", "--sede", "1")[0] == 2
    assert wheretolearn()[0] == 2
    status, out, _ = wheretolearn("--help")
    assert status == 0
    assert all(word in out for word in ("run", "list", "data", "record"))
    assert "--change" in wheretolearn("run", "--help")[1]


def test_missing_data_are_told_without_a_traceback(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("WHERETOLEARN_CACHE", str(tmp_path / "cache"))
    empty = ["--data", str(tmp_path), "--image-size", "84"]
    monkeypatch.setattr(sys, "argv", ["wheretolearn", "data", "prepare", "miniimagenet", *empty])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    assert "miniimagenet" in capsys.readouterr().err


def test_verify_passes_over_what_is_not_at_hand(wheretolearn, tmp_path, monkeypatch):
    for name in [n for n in data.DATASETS if n not in ("glyphs", "cars", "cub")]:
        monkeypatch.delitem(data.DATASETS, name)
    status, out, err = wheretolearn("data", "verify", "--data", "raw")
    assert status == 0
    assert out.startswith("glyphs: ")
    assert [line[:18] for line in err.splitlines()] == ["not at hand: cub i", "not at hand: cars "]
    assert wheretolearn("data", "verify", "cars", "--data", "raw")[0] == 1
    (tmp_path / "raw/cars/class").mkdir(parents=True)
    status, _, err = wheretolearn("data", "verify", "--data", "raw")
    assert status == 1
    assert "16185 images expected, 0 found" in err
