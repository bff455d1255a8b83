"""README and picture say what the records say."""

import re
import shutil
from pathlib import Path

import pytest

from reproduction.claims import ledger, readme
from reproduction.plan import study
from reproduction.runs import records
from synthetic import made_up_record

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def study_records():
    found = records.load(ROOT / "results", study.experiments("study", study.FIG1))
    assert found, "the study's records are committed, and missing here"
    return found


@pytest.fixture(scope="module")
def found():
    return ledger.entries(ROOT / "results")


def test_readme_is_what_the_records_say(found, study_records):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    of_figure2 = records.load(ROOT / "results", study.experiments("study", study.FIG2))
    of_table1 = records.load(ROOT / "results", study.experiments("study", study.TABLE1))
    made = readme.fill(text, found, study_records, of_figure2, of_table1)
    assert made == text, "run: python -m reproduction.claims.readme"


def test_ledger_is_what_the_records_say(found, tmp_path):
    ledger.write(tmp_path / "claims.json", found)
    made, kept = ((p / "claims.json").read_text() for p in (tmp_path, ROOT / "results"))
    assert made == kept, "run: python -m reproduction.claims.readme"


def test_picture_shows_these_records(study_records):
    omniglot = [r for r in study_records if r["data"]["name"] == "omniglot"]
    digest = readme.digest(omniglot, ROOT / "results/paper")
    assert readme.shown(ROOT / readme.PICTURE) == digest, (
        "run: python -m reproduction.claims.readme"
    )


@pytest.mark.parametrize("changed", ["record", "left", "centre", "right"])
def test_a_picture_of_other_numbers_is_seen(study_records, tmp_path, changed):
    before = readme.digest(study_records, ROOT / "results/paper")
    shutil.copytree(ROOT / "results/paper", tmp_path / "paper")
    assert readme.digest(study_records, tmp_path / "paper") == before
    if changed == "record":
        last = study_records[-1] | {"content_sha256": "0" * 64}
        assert readme.digest([*study_records[:-1], last], tmp_path / "paper") != before
    else:
        (path,) = (tmp_path / "paper").glob(f"fig1_{changed}_*.csv")
        path.write_text(path.read_text().replace("7", "8", 1))
        assert readme.digest(study_records, tmp_path / "paper") != before


def test_the_footnote_compares_with_noise(study_records):
    """From 25 % both problems end below noise; only Omniglot ends above it from 0 %."""
    text = readme.beside_noise(study_records)
    omniglot, photographs = text.split("; on miniImageNet ")
    assert "on Omniglot above it from 0 %, below it from 25, 50, 75, 80 and 100 %" in omniglot
    assert photographs.startswith("above it from nowhere, below it from 0, 20, 25, 50, 75, 80 and")
    assert readme.beside_noise([]) == ""
    assert text in readme.results([], study_records)


def test_what_training_adds_is_said():
    runs = []
    for name, updates, gain in (
        ("convnet4-5shot-maml", 600, 0.04),
        ("convnet4-1shot-maml", 600, 0.01),
        ("longer-5shot-maml", 3000, 0.1),
    ):
        for seed in (0, 1):
            run = made_up_record(name, seed)
            run["parameters"] = {"updates": updates}
            run["curves"]["val_accuracy"] = [0.3, 0.3 + gain]
            runs.append(run)
    text = readme.what_training_adds(runs)
    assert text.startswith("600 updates")
    assert "add 4.0 [4.0, 4.0] points to its validation accuracy with 5 shots and 1.0 [" in text
    assert "for 3,000 updates, which add 10.0 [" in text
    assert text in readme.results([], [], (), runs)
    assert readme.what_training_adds(runs[:-1]) == ""


def test_a_readme_without_markers_is_refused():
    with pytest.raises(ValueError, match="markers"):
        readme.fill("nothing", [], [])


@pytest.mark.parametrize("page", ["README.md", "book/method.md"])
def test_the_example_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / page).read_text(encoding="utf-8")
    (example,) = [c for c in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "Learner(" in c]
    example = re.sub(r"range\(\d+\)", "range(3)", example).replace('"omniglot"', '"glyphs"')
    scope: dict = {}
    exec(example, scope)
    assert 0 <= scope["learner"].sparsity() <= 1


def test_links_of_the_readme_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
