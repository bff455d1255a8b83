"""The Makefile, with a Python that does nothing: where the checkout may lie."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", ["a b", 'a"b', "a`b", "a$b$$(HOME)", "a'b", "a),b#c;d&e\\f%{g}"])
def test_a_checkout_may_lie_anywhere(name, tmp_path):
    """It is installed once; and anew where it was moved to."""
    for folder in (tmp_path / "old", tmp_path / name):
        if folder.name == name:
            shutil.move(tmp_path / "old", folder)
        else:
            (folder / ".venv" / "bin").mkdir(parents=True)
            python = folder / ".venv" / "bin" / "python"
            python.write_text("#!/bin/sh\n")
            python.chmod(0o755)
            for file in ("Makefile", "requirements.txt", "pyproject.toml"):
                shutil.copyfile(ROOT / file, folder / file)
        said = [make(folder), make(folder)]
        assert ["Installing" in s for s in said] == [True, False]
        assert (folder / ".venv" / ".installed").read_text() == f"{folder}\n"


def make(folder):
    done = subprocess.run(["make", "book"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout
