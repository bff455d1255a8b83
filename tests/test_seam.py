"""What is fast can be taken away: the same numbers come from the readable code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SCRIPT = """
import json, sys
import torch
from wheretolearn import ConvNet4, MetaLearner, ResNet12, Task, Batch, make_rule
from wheretolearn.continual.methods import make_learner
from wheretolearn.continual.streams.stream import TensorStream

torch.manual_seed(0)
found = {}
for name, network in {
    "grey": ConvNet4(3, 1, 28, 4), "colour": ConvNet4(3, 3, 28, 4), "deep": ResNet12(3, 1, 2)
}.items():
    x = torch.rand(6, 3 if name == "colour" else 1, 28, 28, dtype=torch.float64)
    batch = Batch(x, torch.arange(6) % 3)
    for method in ("maml", "sparse-maml", "anil", "sparse-relu-maml"):
        for stacked in (False, True):
            generator = torch.Generator().manual_seed(0)
            rule = make_rule(method, inner_rate=0.05)
            learner = MetaLearner(
                network.double(), rule, inner_steps=2, stacked=stacked, generator=generator,
                device="cpu",
            )
            learner.step([Task(batch, batch)] * 2)
            grads = [p.grad.abs().sum() for p in (*learner.params.values(),
                                                  *learner.rule_params.values())]
            found[f"{name} {method} {stacked}"] = float(sum(grads))
def batch(n):
    return Batch(torch.rand(n, 6), torch.arange(n) % 3)

stream = TensorStream("any", [(batch(20), batch(4)) for _ in range(2)], classes=3)
for method in ("la-maml", "sparse-la-maml", "mer", "gem", "ewc", "replay", "online"):
    learner = make_learner(method, stream, 0, {}, 5)
    for part in (stream.train(0), stream.train(1)):
        for k in range(0, 20, 10):
            learner.observe(Batch(*(t[k : k + 10] for t in part)))
    found[method] = float(sum(p.abs().sum() for p in learner.params.values()))
print(json.dumps([found, sorted(m for m in sys.modules if "wheretolearn.fast." in m)]))
"""


def numbers(library: Path) -> tuple[dict[str, float], list[str]]:
    script = f"import sys; sys.path.insert(0, {str(library)!r})\n{SCRIPT}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found, modules = json.loads(done.stdout)
    return found, modules


@pytest.mark.slow
def test_the_library_computes_the_same_without_what_is_fast(tmp_path):
    shutil.copytree(ROOT / "lib" / "wheretolearn", tmp_path / "lib" / "wheretolearn")
    shutil.rmtree(tmp_path / "lib" / "wheretolearn" / "fast")
    whole, modules = numbers(ROOT / "lib")
    assert {"wheretolearn.fast.convnet", "wheretolearn.fast.mlp"} <= set(modules)
    readable, none = numbers(tmp_path / "lib")
    assert none == []
    assert readable == pytest.approx(whole, rel=1e-5)  # streams are in float32
