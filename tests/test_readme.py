"""README and picture say what the records say."""

import re
import shutil
from pathlib import Path

import pytest

from reproduction.claims import ledger, readme
from reproduction.plan import study
from reproduction.report.trained_long import outcomes
from reproduction.runs import records

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def study_records():
    found = records.load(ROOT / "results", study.experiments("study", study.FIG1))
    assert found, "the study's records are committed, and missing here"
    return found


@pytest.fixture(scope="module")
def found():
    return ledger.entries(ROOT / "results")


def test_readme_is_what_the_records_say(found):
    long_runs = records.load(ROOT / "results", study.experiments("study", "trained_long"))
    for name, notebooks in readme.PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        rows = readme.results(found, outcomes(long_runs)[0], notebooks)
        assert readme.fill(text, rows) == text, "run: python -m reproduction.claims.readme"
        assert len(text.splitlines()) < 90


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


def test_a_readme_without_markers_is_refused():
    with pytest.raises(ValueError, match="markers"):
        readme.fill("nothing", "")


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
