"""Notebooks run side by side, fail clearly, and are committed without outputs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from reproduction.plan import study
from reproduction.publish import book as publish

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))


def write_notebook(path: Path, *sources: str) -> Path:
    """Write a notebook whose first code cell holds the parameters."""
    new = nbformat.v4
    cells = [new.new_markdown_cell("# A notebook"), *map(new.new_code_cell, sources)]
    cells[1].metadata["tags"] = ["parameters"]
    notebook = new.new_notebook(cells=cells)
    # a kernel that exists nowhere: the current interpreter is used all the same
    notebook.metadata["kernelspec"] = {"name": "nowhere", "display_name": "-", "language": "python"}
    nbformat.write(notebook, path)
    return path


def outputs(path: Path) -> str:
    """Return what a notebook printed."""
    cells = nbformat.read(path, as_version=4).cells
    return "".join(o.get("text", "") for c in cells for o in c.get("outputs", []))


@pytest.fixture
def private_tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder that temporary files go to."""
    # the paths of sockets are short, and so is this folder's
    folder = Path("/tmp", f"wtl-test-{os.getpid()}")
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["python3", None])
def test_the_kernel_is_this_interpreter(tmp_path: Path, kernel: str | None) -> None:
    """Whatever ``python3`` is elsewhere, whatever the notebook says, and wherever it lies."""
    foreign = tmp_path / "jupyter" / "kernels" / "python3"
    foreign.mkdir(parents=True)
    (foreign / "kernel.json").write_text(
        json.dumps({"argv": ["false"], "display_name": "foreign", "language": "python"})
    )
    folder = tmp_path / "a {b}"
    folder.mkdir()
    source = write_notebook(folder / "a.ipynb", "n = 0", "import sys\nprint(sys.executable, n)")
    notebook = nbformat.read(source, as_version=4)
    notebook.metadata = {"kernelspec": {"name": kernel, "display_name": "-"}} if kernel else {}
    nbformat.write(notebook, source)
    command = [
        sys.executable,
        "-m",
        "reproduction.publish",
        "notebook",
        str(source),
        "-p",
        "n",
        "3",
    ]
    done = subprocess.run(
        [*command, str(folder / "out.ipynb")],
        env=os.environ | {"JUPYTER_PATH": str(tmp_path / "jupyter")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert outputs(folder / "out.ipynb") == f"{sys.executable} 3\n"


@pytest.mark.slow
def test_failing_notebook_names_its_cell(tmp_path: Path, private_tmp: Path) -> None:
    bad = "\n# the third cell\nprint('so far')\nraise KeyError('no such record')"
    source = write_notebook(tmp_path / "bad.ipynb", "profile = 'quick'", bad, "print('never')")
    target = tmp_path / "out" / "bad.ipynb"
    with pytest.raises(publish.NotebookError) as failure:
        publish.execute_notebook(source, target, {"profile": "smoke"})
    message = str(failure.value)
    assert "bad.ipynb failed in cell 4 (`# the third cell`)" in message  # 3: injected parameters
    assert "KeyError: 'no such record'" in message
    kept = target.with_suffix(".failed.ipynb")
    assert str(kept) in message
    assert outputs(kept) == "so far\n"
    assert not target.exists(), "only a notebook that ran to its end is a result"
    assert not list(private_tmp.glob("wtl-*"))


@pytest.mark.slow
def test_dead_kernel_names_its_cell(tmp_path: Path) -> None:
    source = write_notebook(tmp_path / "dies.ipynb", "", "import os\nos._exit(3)")
    with pytest.raises(publish.NotebookError, match=r"dies.ipynb failed in cell 3 \(`import os`\)"):
        publish.execute_notebook(source, tmp_path / "out.ipynb")


def test_unknown_parameter_and_missing_notebook(tmp_path: Path) -> None:
    source = write_notebook(tmp_path / "a.ipynb", "profile = 'quick'")
    with pytest.raises(ValueError, match="no parameter 'profil'; did you mean 'profile'"):
        publish.execute_notebook(source, tmp_path / "out.ipynb", {"profil": "study"})
    with pytest.raises(FileNotFoundError, match=r"no notebook .*b\.ipynb"):
        publish.execute_notebook(tmp_path / "b.ipynb", tmp_path / "out.ipynb")


def test_stage_keeps_paths_and_hides_machine(tmp_path: Path) -> None:
    root, executed = tmp_path / "root", tmp_path / "executed"
    (root / "book").mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml", "book/index.md"):
        (root / name).write_text(name)
    page = (
        "# API\n\n## Rules\nautomodule:: wheretolearn.rules\n## No\nautomodule:: wheretolearn.no\n"
    )
    (root / "book" / "api.md").write_text(page)
    executed.mkdir()
    write_notebook(executed / "fig.ipynb", "profile = 'quick'", "profile = 'smoke'")
    write_notebook(executed / "fig.failed.ipynb", "")
    notebook = nbformat.read(executed / "fig.ipynb", as_version=4)
    notebook.metadata["papermill"] = {"input_path": "/home/somebody"}
    notebook.cells[2].metadata["tags"] = ["injected-parameters"]
    nbformat.write(notebook, executed / "fig.ipynb")

    stage = tmp_path / "stage"
    publish.stage_book(executed, stage, root)

    found = sorted(str(p.relative_to(stage)) for p in stage.rglob("*") if p.is_file())
    assert found == [
        "_config.yml",
        "_toc.yml",
        "book/api.md",
        "book/index.md",
        "notebooks/fig.ipynb",
    ]
    assert "wheretolearn.rules" in (stage / "book" / "api.md").read_text()
    staged = nbformat.read(stage / "notebooks" / "fig.ipynb", as_version=4)
    assert "papermill" not in staged.metadata
    assert "remove-cell" in staged.cells[2].metadata["tags"]
    assert "remove-cell" not in staged.cells[1].metadata["tags"]


def test_api_page_lists_every_module() -> None:
    """Modules that a reader may import are documented."""
    page = (ROOT / "book" / "api.md").read_text()
    listed = {m.split(".")[0] for m in re.findall(r"automodule:: wheretolearn\.(\S+)", page)}
    package = ROOT / "lib" / "wheretolearn"
    modules = {p.relative_to(package).with_suffix("") for p in package.rglob("*.py")}
    names = {m.parts[0] for m in modules}  # a package is listed as one
    assert names - listed <= {"__init__", "__main__"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_committed_notebook_is_clean(path: Path) -> None:
    """What is committed holds no outputs, no execution counts, and a cell of parameters."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for cell in code:
        assert cell["outputs"] == [], f"outputs in {''.join(cell['source'])[:60]!r}"
        assert cell["execution_count"] is None
    if path.parent.name == "notebooks":  # figures and tables, not assignments
        tagged = [c for c in code if "parameters" in c["metadata"].get("tags", [])]
        assert len(tagged) == 1
        trains = path.stem in study.FIGURES["quick"]
        for name in ("profile", *(("seeds", "device", "data", "fresh") if trains else ())):
            assert re.search(rf"^{name}\b.*=", "".join(tagged[0]["source"]), re.M), name


@pytest.mark.parametrize("profile", ["study", "paper"])
def test_pipeline_knows_what_is_missing(profile, monkeypatch, tmp_path, capfd):
    """A dry run plans the records that are not there, and no others."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(publish, "BUILD", tmp_path)  # a lock of its own
    arguments = ["records", "--dry-run", "--cores", "1", "--config", f"profile={profile}"]
    assert publish.run_pipeline(arguments) == 0
    shown = "".join(capfd.readouterr())
    missing = {
        f"{run.experiment}, seed {run.seed} ({profile})"
        for run in study.plan(profile)
        if not (ROOT / run.record).exists()
    }
    assert set(re.findall(r"Training (.+?\))", shown)) == missing


@pytest.fixture
def dry_run(monkeypatch, tmp_path, capfd):
    """Plan the smallest study, with a folder for locks and caches of its own."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(publish, "BUILD", tmp_path / "build")

    def call(profile: str = "smoke"):
        arguments = ["records", "--dry-run", "--cores", "1", "--config", f"profile={profile}"]
        status = publish.run_pipeline(arguments)
        return status, capfd.readouterr().err

    return call


def test_pipeline_does_without_a_home(dry_run, monkeypatch):
    monkeypatch.setenv("HOME", "/dev/null/home")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    status, err = dry_run()
    assert status == 0, err
    assert "Error" not in err


@pytest.mark.parametrize("profile", ["smokee", "3"])
def test_pipeline_refuses_an_unknown_profile_in_a_line(dry_run, profile):
    status, err = dry_run(profile)
    assert status == 1
    said = [line for line in err.splitlines() if "profile" in line]
    assert said == [line for line in said if line.startswith(f"error: unknown profile '{profile}'")]
    assert len(said) == 1
    assert "Traceback" not in err
    assert "File" not in err
