"""What the README shows of the library: twenty lines, and what they leave behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from wheretolearn import ConvNet4, EpisodeSampler, MetaLearner, load, make_rule
from wheretolearn.types import Batch

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def episodes():
    return EpisodeSampler(load("glyphs", 28), "train", ways=3, shots=1, queries=2, seed=0)


def network():
    return ConvNet4(ways=3, channels=1, image_size=28, width=4)


@pytest.fixture
def learner(episodes):
    torch.manual_seed(0)
    learner = MetaLearner(network(), make_rule("sparse-maml", inner_rate=0.1), inner_steps=2)
    learner.step(episodes.batch(0, 2))
    return learner


def test_prediction_is_the_adapted_network(learner, episodes):
    task = episodes[5]
    outputs = learner.predict(task.support, task.query.inputs)
    adapted = torch.func.functional_call(
        learner.module, learner.adapt(task.support), (task.query.inputs,)
    )
    assert torch.equal(outputs, adapted)
    assert not outputs.requires_grad


def test_a_saved_learner_goes_on_as_the_same(learner, episodes, tmp_path):
    learner.save(tmp_path / "learner.pt")
    again = MetaLearner.load(tmp_path / "learner.pt", network())
    assert (again.rule, again.inner_steps) == (learner.rule, learner.inner_steps)
    scores = [one.step(episodes.batch(1, 2)) for one in (learner, again)]
    assert scores[0] == scores[1]
    for name, p in learner.params.items():
        assert torch.equal(p, again.params[name])


def test_another_network_or_file_is_refused(learner, tmp_path):
    learner.save(tmp_path / "learner.pt")
    with pytest.raises(ValueError, match="layer1"):
        MetaLearner.load(
            tmp_path / "learner.pt", ConvNet4(ways=3, channels=3, image_size=28, width=4)
        )
    torch.save({"params": 3}, tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("no archive")
    for name in ("other.pt", "text.pt"):
        with pytest.raises(ValueError, match="holds no meta-learner"):
            MetaLearner.load(tmp_path / name, network())


def test_the_exported_network_starts_where_the_learner_does(learner, episodes):
    inputs = episodes[0].query.inputs
    exported = learner.export()
    start = torch.func.functional_call(learner.module, learner.params, (inputs,))
    assert torch.equal(exported(inputs), start)
    learner.step([episodes[3]])
    assert not torch.equal(
        exported(inputs), torch.func.functional_call(learner.module, learner.params, (inputs,))
    ), "it does not move with the learner"


def test_a_support_of_another_kind_of_numbers_can_be_predicted_from(learner, episodes):
    support = episodes[0].support
    small = Batch(support.inputs, support.targets.to(torch.uint8))
    inputs = episodes[0].query.inputs
    assert torch.equal(learner.predict(small, inputs), learner.predict(support, inputs))


def test_the_library_is_imported_without_what_it_does_not_need():
    script = """
import sys
import wheretolearn
assert "torch" not in sys.modules
from wheretolearn import MetaLearner, make_rule, ConvNet4
slow = {"matplotlib", "pandas", "seaborn", "snakemake", "papermill", "reproduction"}
assert not slow & set(sys.modules), slow & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_the_script_of_the_readme_runs(tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = text.partition("```python\n")[2].partition("```")[0]
    assert 0 < len(code.splitlines()) <= 20
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code.replace("omniglot", "glyphs")
            .replace("range(500)", "range(2)")
            .replace("range(100)", "range(2)"),
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "accuracy" in done.stdout
