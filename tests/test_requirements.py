"""What is installed: nothing without an upper bound, and a lock file that fits."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def requirements(name):
    """Return the requirements of a file, or of the project itself."""
    if name == "pyproject.toml":
        lines = PROJECT["project"]["dependencies"] + PROJECT["build-system"]["requires"]
    else:
        lines = [line.partition("#")[0].strip() for line in (ROOT / name).open()]
    return [Requirement(line) for line in lines if line and not line.startswith("-e")]


FILES = ["pyproject.toml", *sorted(p.name for p in ROOT.glob("requirements*.txt"))]


@pytest.mark.parametrize("name", FILES)
def test_every_requirement_has_an_upper_bound(name):
    found = requirements(name)
    assert found
    unbounded = [
        str(r) for r in found if not {s.operator for s in r.specifier} & {"<", "<=", "==", "~="}
    ]
    assert unbounded == []


def needed(asked):
    """Return the names of what is asked for here and of all that it needs, as installed."""
    found, todo = set(), [(r, frozenset([""])) for r in asked]
    while todo:
        one, extras = todo.pop()
        if one.marker and not any(one.marker.evaluate({"extra": e}) for e in extras):
            continue
        name, own = canonicalize_name(one.name), frozenset(["", *one.extras])
        if (name, own) not in found:
            found.add((name, own))
            todo += [(Requirement(r), own) for r in metadata.requires(name) or ()]
    return {name for name, _ in found}


def test_the_lock_file_is_current():
    """Whatever is asked for is pinned in it, to a version that was asked for, with hashes."""
    text = (ROOT / "requirements.lock").read_text()
    pins = re.findall(
        r"^(\S+)==(\S+)(?: ; .*?)? \\\n((?: +--hash=sha256:[0-9a-f]{64}.*\n)+)", text, re.M
    )
    pinned: dict[str, list[str]] = {}
    for name, version, _ in pins:
        pinned.setdefault(name, []).append(version)
    assert len(pins) == len(re.findall("^[a-z]", text, re.M)), "a line without hashes"
    asked = [
        *requirements("requirements.txt"),
        *map(Requirement, PROJECT["project"]["dependencies"]),
    ]
    for one in asked:
        versions = pinned.get(canonicalize_name(one.name), [])
        assert versions, f"{one} is not in requirements.lock; its first lines say how to make it"
        assert all(v in one.specifier for v in versions), (
            f"{one}, but {versions} in requirements.lock"
        )
    assert needed(asked) <= set(pinned), "what is needed by what is asked for"
    assert "wheretolearn" not in pinned
    assert "://" not in text, "it is for every machine"
