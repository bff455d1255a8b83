"""The chapter "Build on it" does what it says: its code runs, in its order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_code_of_the_chapter_runs(tmp_path):
    text = (ROOT / "book" / "build.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 7
    environment = os.environ | {
        "WHERETOLEARN_RESULTS": str(ROOT / "results"),
        "WHERETOLEARN_CACHE": str(tmp_path / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    made = {p.parent.name for p in (tmp_path / "results/smoke").rglob("seed0.json")}
    assert made == {"tiny-soft-maml", "glyph-rotations-decay"}
    assert "supported" in done.stdout
