"""Compiled functions: where no cache can be kept, and where what was kept is damaged."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import wheretolearn
from wheretolearn.fast.compiled import jit

PACKAGE = Path(wheretolearn.__file__).parent


def test_no_cache_can_be_kept(tmp_path):
    """Neither beside the library nor at home, as in many containers: it imports and computes."""
    copy = tmp_path / "lib" / "wheretolearn"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.npz", "data"))
    (copy / "data").symlink_to(PACKAGE / "data")
    for folder in (copy, copy / "fast"):
        (folder / "__pycache__").touch()  # no folder can be made there, not even by root
    script = """
import numpy as np
from wheretolearn.fast import first_block, kernels, mlp, mlp_steps
rates = np.ones(2)
kernels._coefficients(rates, rates, rates, rates, rates, 2)
print(kernels.__file__)
"""
    nowhere = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), "/dev/null/home")
    done = subprocess.run(
        [sys.executable, "-B", "-c", script],
        env=os.environ | nowhere | {"PYTHONPATH": str(copy.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(copy / "fast" / "kernels.py")


SOURCE = """
from wheretolearn.fast.compiled import jit

@jit("contract")
def double(x):
    return 2 * x
"""


@pytest.fixture
def double(tmp_path):
    """Return a function that compiles anew, as a new process would, and the folder it caches in."""
    path = tmp_path / "doubling.py"
    path.write_text(SOURCE)

    def load():
        spec = importlib.util.spec_from_file_location("doubling", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.double

    return load


def hits(function):
    return sum(function.stats.cache_hits.values())


def empty(data):
    return b""


def cut(data):
    return data[: len(data) // 2]


def one_bit(data):
    return data[:-200] + bytes([data[-200] ^ 1]) + data[-199:]


@pytest.mark.parametrize("damage", [empty, cut, one_bit])
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_a_damaged_cache_is_made_again(double, tmp_path, kind, damage):
    assert double()(3) == 6
    (file,) = tmp_path.rglob(f"*.{kind}")
    first = double()
    assert (first(3), hits(first)) == (6, 1)
    file.write_bytes(damage(file.read_bytes()))
    again = double()
    assert (again(3), hits(again)) == (6, 0)
    last = double()
    assert (last(3), hits(last)) == (6, 1), "it was mended"
    assert not list(tmp_path.rglob("*.tmp.*"))


def test_a_cache_that_cannot_be_written_is_done_without(double, tmp_path):
    function = double()
    shutil.rmtree(tmp_path / "__pycache__")
    (tmp_path / "__pycache__").touch()
    assert function(3) == 6


def test_flags_of_arithmetic_are_passed_on():
    assert jit("contract")(lambda x: x).targetoptions["fastmath"] == {"contract"}
