"""The notebooks run as a reader would run them: alone, training what has no record."""

import json
import shutil
from pathlib import Path

import pytest

from reproduction.plan import study
from reproduction.publish.book import execute_notebook

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TRAINING = [p for p in NOTEBOOKS if p.stem in study.FIGURES["smoke"]]
SHOWING = [p for p in NOTEBOOKS if p not in TRAINING]  # what came with the project, and no more


@pytest.mark.slow
@pytest.mark.parametrize("notebook", TRAINING, ids=lambda p: p.stem)
def test_notebook_trains_what_is_missing_and_shows_it(notebook, tmp_path, monkeypatch):
    results = tmp_path / "results"
    for folder in ("paper", "study"):
        shutil.copytree(ROOT / "results" / folder, results / folder)
    monkeypatch.setenv("WHERETOLEARN_RESULTS", str(results))
    before = set(results.rglob("*.json"))
    target = execute_notebook(
        notebook, tmp_path / "executed.ipynb", {"profile": "smoke", "seeds": [0]}
    )
    made = set(results.rglob("*.json")) - before
    wanted = [r for r in study.plan("smoke", notebook.stem) if r.seed == 0]
    assert {p.relative_to(tmp_path).as_posix() for p in made} == {r.record for r in wanted}
    cells = json.loads(target.read_text(encoding="utf-8"))["cells"]
    shown = [
        o["data"]
        for c in cells
        for o in c.get("outputs", [])
        if o["output_type"] in ("display_data", "execute_result")
    ]
    assert sum("image/svg+xml" in data for data in shown) >= 3  # paper, study, own
    stamps = [data["image/svg+xml"] for data in shown if "image/svg+xml" in data]
    assert any("profile smoke" in "".join(s) for s in stamps), "a figure without its stamp"


@pytest.mark.slow
@pytest.mark.parametrize("notebook", SHOWING, ids=lambda p: p.stem)
def test_notebook_shows_what_came_with_the_project(notebook, tmp_path, monkeypatch):
    results = tmp_path / "results"
    for folder in ("bench", "paper", "study"):
        shutil.copytree(ROOT / "results" / folder, results / folder)
    monkeypatch.setenv("WHERETOLEARN_RESULTS", str(results))
    before = set(results.rglob("*"))
    target = execute_notebook(notebook, tmp_path / "executed.ipynb", {"profile": "smoke"})
    assert set(results.rglob("*")) == before
    cells = json.loads(target.read_text(encoding="utf-8"))["cells"]
    code = [c for c in cells if c["cell_type"] == "code"]
    assert sum(bool(c["outputs"]) for c in code) >= 2


def test_every_quick_figure_has_a_notebook():
    names = {p.stem for p in NOTEBOOKS}
    assert study.FIGURES["quick"].keys() <= names
    assert study.FIGURES["quick"].keys() == study.FIGURES["smoke"].keys()


@pytest.mark.parametrize("notebook", TRAINING, ids=lambda p: p.stem)
def test_notebook_has_the_usual_parameters(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    (cell,) = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    scope: dict = {}
    exec("".join(cell["source"]), scope)
    wanted = {"profile": "quick", "seeds": None, "device": "auto", "data": None, "fresh": False}
    assert {name: scope[name] for name in wanted} == wanted
