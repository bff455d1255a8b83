"""What a reader changes: one run, the runs of a notebook, a sweep."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reproduction.plan import study
from reproduction.plan.change import changed, grid, parts
from reproduction.report import load_records, sweep
from synthetic import made_up_record

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("fig1-glyphs-sparse50", {"width": 6, "inner_rate": 0.5}),
        ("glyph-rotations-la-maml", {"width": 6, "settings.glances": 2}),
        ("convnet4-5shot-sparse-maml-shuffled-masks", {"width": 6}),
    ],
)
def test_a_changed_run_is_known_by_its_name(name, change):
    found = study.find("smoke", changed(study.find("smoke", name), change).name)
    assert parts(found.name)[0] == name
    assert found.parameters()["width"] == 6
    assert found.masks_from in ("", "convnet4-5shot-sparse-maml+width=6")
    assert found == study.find("smoke", found.name)


def test_unknown_changes_suggest_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'inner_rate'"):
        study.find("smoke", "fig1-glyphs-maml+inner_rat=1")
    with pytest.raises(ValueError, match="no experiment 'fig1-glyphs-mam'"):
        study.find("smoke", "fig1-glyphs-mam+width=3")


def test_a_notebooks_runs_are_changed_alike(tmp_path, monkeypatch):
    monkeypatch.setenv("WHERETOLEARN_RESULTS", str(tmp_path))
    change = {"updates": 1, "test_tasks": 1, "val_tasks": 1, "width": 2}
    made = load_records.own_records("fig1_sparsity_emerges", "smoke", seeds=[0], change=change)
    again = load_records.own_records(
        "fig1_sparsity_emerges", "smoke", seeds="[0]", change=str(change)
    )
    assert made == again
    names = [e.name for e in study.experiments("smoke", "fig1_sparsity_emerges")]
    assert [r["experiment"] for r in made] == names, "drawn in the place of the planned runs"
    assert {r["parameters"]["width"] for r in made} == {2}
    assert {p.parent.name.partition("+")[0] for p in tmp_path.rglob("seed0.json")} == set(names)
    assert "width = 2" in load_records.own_title("smoke", change)
    for wrong, message in (("[3]", "a change is written"), ({"widht": 3}, "did you mean 'width'")):
        with pytest.raises(ValueError, match=message):
            load_records.own_records("fig1_sparsity_emerges", "smoke", change=wrong)


@pytest.mark.slow
@pytest.mark.parametrize("where", [".", "notebooks"])
def test_papermill_changes_a_notebook(tmp_path, where):
    results = tmp_path / "results"
    for folder in ("paper", "study"):
        (results / folder).mkdir(parents=True)
    shutil.copytree(ROOT / "results/paper", results / "paper", dirs_exist_ok=True)
    source = Path("notebooks" if where == "." else ".", "fig1_sparsity_emerges.ipynb")
    asked = "{change: {inner_rate: 0.5, inner_steps: 2, width: 2}, seeds: [0], profile: smoke}"
    command = [sys.executable, "-m", "papermill", str(source), str(tmp_path / "out.ipynb")]
    done = subprocess.run(
        [*command, "-y", asked],
        cwd=ROOT / where,
        env=os.environ | {"WHERETOLEARN_RESULTS": str(results)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list(results.rglob("*+inner_rate=0.5+inner_steps=2+width=2/seed0.json"))) == 8
    assert "unknown parameters" not in done.stderr


def test_values_of_a_sweep():
    changes, seeds = grid(["inner_rate=0.1,0.5", "width=2,4", "seed=0-2,7"])
    assert changes == [{"inner_rate": r, "width": w} for r in (0.1, 0.5) for w in (2, 4)]
    assert seeds == [0, 1, 2, 7]
    assert grid(["width=3"])[1] is None
    for wrong in ("width", "width=", "seed=a"):
        with pytest.raises(ValueError, match="written"):
            grid([wrong])


@pytest.mark.slow
def test_a_sweep_ends_in_a_table_and_a_plot(tmp_path):
    for name in ("Snakefile", "lib", "notebooks", "profiles"):
        (tmp_path / name).symlink_to(ROOT / name)
    values = ["inner_rate=0.1,0.2,0.5", "seed=0-1", "width=2", "--profile", "smoke"]
    done = subprocess.run(
        [sys.executable, "-m", "reproduction", "sweep", "fig1-glyphs-sparse50", *values],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((tmp_path / "results/smoke").rglob("seed?.json"))) == 6
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 5, done.stdout
    assert all(row.endswith("| 2 |") for row in rows[2:])
    assert (tmp_path / "_build/sweeps/fig1-glyphs-sparse50.svg").stat().st_size > 1000


def test_a_sweep_of_runs_that_diverged_shows_no_numbers():
    record = made_up_record("a+width=3", 0, diverged=True)
    assert "| width=3 | 0 |" in sweep.table("a", [record])
