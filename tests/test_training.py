"""Meta-training learns, tests what it says it tests, and records it."""

import copy
import dataclasses

import pytest
import torch

from reproduction.runs import few_shot, records, run_or_resume
from reproduction.runs.few_shot import FewShotRun
from synthetic import TINY, content, image_set
from wheretolearn.data import DataError
from wheretolearn.meta import MetaLearner, Score
from wheretolearn.tasks import EpisodeSampler

IMAGES = image_set()


def train(experiment=TINY, seed=0, images=IMAGES):
    """Return a finished training and its record's content."""
    run = FewShotRun(experiment, seed, images, device="cpu")
    return run, run.finish()


@pytest.fixture
def episodes(monkeypatch):
    """Return a list that grows by (split, index, rows) with every episode that is drawn."""
    drawn = []
    draw = EpisodeSampler.draw

    def spy(self, index):
        support, query, turns = draw(self, index)
        drawn.append((self.split, index, {*support.ravel().tolist(), *query.ravel().tolist()}))
        return support, query, turns

    monkeypatch.setattr(EpisodeSampler, "draw", spy)
    return drawn


@pytest.mark.parametrize("method", ["maml", "sparse-maml", "meta-sgd"])
def test_meta_training_learns(method):
    """On images whose upper rows tell the class, amid noise: chance is one third."""
    experiment = TINY.replace(
        method=method,
        init_sparsity=0.5 if method == "sparse-maml" else 0.0,
        width=24,
        inner_rate=0.1,
        inner_steps=3,
        meta_batch=4,
        meta_rate=5e-3,
        updates=100,
        eval_every=50,
        val_tasks=20,
        test_tasks=40,
    )
    _, record = train(experiment, images=image_set((30, 10, 10), noise=40))
    curves, test = record["curves"], record["final"]["test_accuracy"]
    assert curves["update"] == [0, 50, 100]
    assert test["low"] > 0.7, test
    assert test["mean"] > curves["val_accuracy"][0] + 0.3
    assert curves["train_loss"][-1] < curves["train_loss"][1]
    assert curves["train_loss"][0] is None
    assert test["n"] == 40


@pytest.mark.parametrize("before", [0.2, 0.95])
def test_the_best_checkpoint_is_tested(before, monkeypatch):
    """The weights at the test are those of the second validation, not the untrained ones."""
    accuracies = iter([before, 0.9, 0.9, 0.3, 0.5])
    weights = []

    def evaluate(self, tasks):
        list(tasks)
        state = self.state_dict()
        weights.append(copy.deepcopy({k: state[k] for k in ("params", "rule_params")}))
        accuracy = next(accuracies)
        return Score([1.0, 1.0], [accuracy - 0.1, accuracy + 0.1])

    monkeypatch.setattr(MetaLearner, "evaluate", evaluate)
    _, record = train()
    assert record["final"]["best_update"] == 2
    assert record["final"]["val_accuracy"] == pytest.approx(0.9)
    assert record["final"]["test_accuracy"]["mean"] == pytest.approx(0.5)
    assert record["final"]["best_sparsity"] == record["curves"]["sparsity"][1]
    assert record["final"]["sparsity"] == record["curves"]["sparsity"][-1]

    def same(a, b):
        return all(torch.equal(a[k][n], b[k][n]) for k in a for n in a[k])

    assert len(weights) == 5
    assert same(weights[4], weights[1])
    assert not any(same(weights[4], weights[i]) for i in (0, 2, 3))


def test_the_test_accuracy_is_that_of_the_test_episodes():
    run, record = train()
    sampler = EpisodeSampler(IMAGES, "test", ways=3, shots=2, queries=3, seed=0)
    score = run.learner.evaluate([sampler[i] for i in range(TINY.test_tasks)])
    assert record["final"]["test_accuracy"]["mean"] == pytest.approx(score.accuracy)
    assert record["final"]["test_loss"] == pytest.approx(score.loss)


def test_which_episodes_are_seen(episodes):
    """Training in order and once; every validation alike; the test at the end only."""
    train(TINY.replace(updates=5))  # evaluations at 0, 2, 4 and 5
    seen = [e[:2] for e in episodes]
    assert [i for s, i in seen if s == "train"] == list(range(5 * TINY.meta_batch))
    assert [i for s, i in seen if s == "val"] == [0, 1, 2] * 4
    assert seen[-TINY.test_tasks :] == [("test", i) for i in range(TINY.test_tasks)]
    assert [s for s, _ in seen].count("test") == TINY.test_tasks


def test_a_run_without_a_test_never_sees_test_classes(episodes):
    _, record = train(TINY.replace(test_tasks=0, updates=4))
    assert {e[0] for e in episodes} == {"train", "val"}
    assert record["status"] == "finished"
    assert record["final"]["test_accuracy"] is None
    assert record["final"]["val_accuracy"] == max(record["curves"]["val_accuracy"])


def test_images_of_test_classes_are_not_seen_in_training(episodes):
    train(TINY.replace(updates=40, eval_every=10))
    rows: dict[str, set[int]] = {"train": set(), "val": set(), "test": set()}
    for split, _, drawn in episodes:
        rows[split] |= drawn
    for split, classes in IMAGES.splits.items():
        allowed = {r for c in classes for r in range(IMAGES.offsets[c], IMAGES.offsets[c + 1])}
        assert rows[split]
        assert rows[split] <= allowed
    assert rows["train"].isdisjoint(rows["test"])
    assert rows["val"].isdisjoint(rows["train"] | rows["test"])


def test_methods_with_one_seed_are_comparable(episodes):
    """The same initialisation and the same episodes, whatever the rule draws."""
    starts, states, seen = {}, {}, {}
    for method in ("maml", "sparse-maml", "meta-sgd", "boil"):
        for seed in (0, 1):
            sparsity = 0.5 if method == "sparse-maml" else 0.0
            experiment = TINY.replace(method=method, init_sparsity=sparsity)
            run = FewShotRun(experiment, seed, IMAGES, device="cpu")
            starts[method, seed] = {n: p.clone() for n, p in run.learner.params.items()}
            states[method, seed] = torch.get_rng_state()  # a network may draw from it
            episodes.clear()
            run.finish()
            # each stream in its own order: training episodes are made ahead of use
            seen[method, seed] = sorted(episodes, key=lambda e: e[0])
    for (method, seed), start in starts.items():
        assert all(torch.equal(p, starts["maml", seed][n]) for n, p in start.items()), method
        assert torch.equal(states[method, seed], states["maml", seed]), method
        assert seen[method, seed] == seen["maml", seed]
    weights = "layers.0.weight"
    assert not torch.equal(starts["maml", 0][weights], starts["maml", 1][weights])
    assert seen["maml", 0] != seen["maml", 1]


# --- the life of a record


@pytest.fixture
def trainings(monkeypatch):
    """Return the seeds of the trainings that were started; they run on small images."""
    started = []
    init = FewShotRun.__init__

    def spy(self, experiment, seed, *args, **kwargs):
        started.append(seed)
        init(self, experiment, seed, *args, **kwargs)

    monkeypatch.setattr(FewShotRun, "__init__", spy)
    monkeypatch.setattr(few_shot, "load", lambda name, size, root=None: IMAGES)
    return started


def run(results, experiment=TINY, seed=0, **options):
    return run_or_resume.run(experiment, seed, results=results, progress=False, **options)


def test_a_record_is_used_again(tmp_path, trainings):
    first = run(tmp_path)
    assert records.read(tmp_path / "smoke/tiny/seed0.json") == first
    assert run(tmp_path) == first
    assert trainings == [0]
    again = run(tmp_path, fresh=True)
    assert trainings == [0, 0]
    assert content(again) == content(first)
    assert content(run(tmp_path, seed=1)) != content(first)
    assert trainings == [0, 0, 1]
    assert run(tmp_path, TINY.replace(width=5), fresh=True)["parameters"]["width"] == 5


@pytest.fixture
def loaded():
    """Return the names of the data sets that were loaded."""
    return []


@pytest.fixture
def cars(tmp_path, monkeypatch, trainings, loaded):
    """Return a function that brings Stanford Cars, whole or broken; until then there are none."""
    monkeypatch.setenv("WHERETOLEARN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WHERETOLEARN_CACHE", str(tmp_path / "cache"))

    def load(name, size, root=None):
        loaded.append(name)
        if name == "cars" and not (tmp_path / "data/cars/whole").exists():
            raise DataError("no whole cars")
        return dataclasses.replace(IMAGES, name=name)

    monkeypatch.setattr(few_shot, "load", load)

    def bring(kind="whole"):
        (tmp_path / "data/cars" / kind).mkdir(parents=True)

    return bring


ON_CARS = TINY.replace(probes=("on:cars",))


def test_a_record_without_an_answer_is_made_again_when_its_data_are_there(
    tmp_path, trainings, cars, loaded, capsys
):
    first = run(tmp_path, ON_CARS)
    assert first["final"]["probes"] == {}
    loaded.clear()
    assert run(tmp_path, ON_CARS) == first
    assert loaded == [], "what is absent is not even tried"
    cars()
    capsys.readouterr()
    second = run(tmp_path, ON_CARS)
    assert "seed0.json was made without cars, now at hand; running again" in capsys.readouterr().out
    assert list(second["final"]["probes"]) == ["on:cars"]
    assert list(second["final"]["others"]) == ["cars"]
    assert "others" not in first["final"]
    assert second["final"]["test_accuracy"] == first["final"]["test_accuracy"]
    loaded.clear()
    assert run(tmp_path, ON_CARS) == second
    assert trainings == [0, 0]
    assert loaded == []


def test_broken_data_do_not_start_a_training(tmp_path, trainings, cars, capsys):
    first = run(tmp_path, ON_CARS)
    cars("broken")
    capsys.readouterr()
    assert run(tmp_path, ON_CARS) == first
    assert trainings == [0]
    assert "not tested on cars: no whole cars" in capsys.readouterr().out


def test_a_probe_on_unknown_data_is_refused():
    with pytest.raises(ValueError, match="unknown data set 'car'; did you mean 'cars'"):
        TINY.replace(probes=("steps", "on:car"))


def test_a_record_that_cannot_be_trusted_is_neither_used_nor_replaced(tmp_path, trainings):
    run(tmp_path)
    path = tmp_path / "smoke/tiny/seed0.json"
    tampered = path.read_text().replace('"status": "finished"', '"status": "diverged"')
    path.write_text(tampered)
    with pytest.raises(records.RecordError, match="changed after it was written"):
        run(tmp_path)
    assert path.read_text() == tampered
    assert trainings == [0]
    run(tmp_path, fresh=True)
    assert records.read(path)["status"] == "finished"


def test_provenance(tmp_path, trainings):
    where = run(tmp_path, device="cpu")["provenance"]
    assert 0 <= where["wall_seconds"] < 600  # rounded to tenths
    assert where["torch"] == torch.__version__
    assert (where["device"], where["threads"], where["interruptions"]) == ("cpu", 1, 0)
    assert where["processor"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ways": 7}, "7-way episodes need 7 classes, but split 'val'"),
        ({"queries": 30}, "too few in glyphs: class"),
        ({"order": 3}, "order must be 1 or 2"),
        ({"inner_steps": -1}, "inner_steps must be 0 or more"),
        ({"network": "convnet4"}, "8 pixels are too few"),
        ({"network": "resnet"}, "unknown network 'resnet'"),
        ({"meta_rate": -1.0}, "meta_rate must be 0 or more and finite"),
        ({"rule_rate": -1.0}, "rule_rate must be 0 or more and finite"),
    ],
)
def test_what_cannot_run_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        FewShotRun(TINY.replace(**change), 0, IMAGES, device="cpu")
