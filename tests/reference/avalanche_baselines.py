"""Run the baselines of Avalanche on a tiny stream, and write down where they end.

``tests/test_against_avalanche.py`` checks the learners of this project against the file that
this script writes, ``avalanche_baselines.json``, and needs no Avalanche.  To write it again
(Python 3.11, a virtual environment of its own)::

    pip install torch==2.14.1 torchvision==0.29.1 avalanche-lib==0.6.0 quadprog==0.1.14
    python tests/reference/avalanche_baselines.py

It takes half a minute on one core.  Avalanche is no dependency of the project: with all that it
needs, the environment held 99 packages and 6 GB, and it imports torchvision, whose build on PyPI
for the torch of this project (0.28.0) cannot be imported beside the CPU build of torch 2.13.0
("operator torchvision::nms does not exist").

Avalanche is watched, not changed.  What makes it comparable:

* float64 by default, since it would keep the importances of EWC in float32 otherwise;
* batches in the order of the data (``shuffle=False``);
* EWC squares the mean gradient of each batch, so it runs with batches of one (the Fisher
  information of samples) and with a task in one batch (that of the mean);
* GEM adds 0.001 to the diagonal of its quadratic problem, which moves the weights by up to 0.002
  here.  The loss is multiplied, and the rate divided, by a power of two: SGD and the projection
  stay as they are, and that number no longer matters.  The memory holds all of a task, since
  which samples it keeps is drawn at random otherwise;
* what replay and MER replay is drawn at random, and is written down;
* the reservoir is filled many times, and what it holds is counted.
"""

import itertools
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

TASKS, CLASSES, TRAIN, TEST = 3, 4, 40, 20
SIZES = (10, 6, CLASSES)
BATCH = 4
SCALE = 2.0**10  # of GEM's loss
FILE = Path(__file__).with_suffix(".json")


def stream(seed: int = 0) -> dict[str, list[Any]]:
    """Return inputs and targets of all tasks; the classes of each lie elsewhere."""
    rng = np.random.default_rng(seed)
    data: dict[str, list[Any]] = {"train": [], "test": []}
    for _ in range(TASKS):
        centres = rng.normal(size=(CLASSES, SIZES[0]))
        for part, count in (("train", TRAIN), ("test", TEST)):
            targets = rng.permutation(np.arange(count) % CLASSES)
            inputs = 0.6 * (centres[targets] + rng.normal(size=(count, SIZES[0])))
            data[part].append([inputs.round(2).tolist(), targets.tolist()])
    return data


def start(seed: int = 1) -> list[Any]:
    """Return weights and biases of all layers."""
    rng = np.random.default_rng(seed)
    params = []
    for a, b in itertools.pairwise(SIZES):
        params += [rng.normal(size=(b, a)) / a**0.5, 0.1 * rng.normal(size=b)]
    return [p.round(3).tolist() for p in params]


def network(params: list[Any]) -> nn.Module:
    """Return an MLP with given parameters."""
    net = nn.Sequential(nn.Linear(*SIZES[:2]), nn.ReLU(), nn.Linear(*SIZES[1:]))
    with torch.no_grad():
        for p, given in zip(net.parameters(), params, strict=True):
            p.copy_(torch.tensor(given))
    return net


def tensors(part: list[Any]) -> list[tuple[Tensor, Tensor]]:
    """Return the tasks as tensors."""
    return [(torch.tensor(x), torch.tensor(y)) for x, y in part]


def run(
    make: Callable[..., Any], data: dict[str, list[Any]], rate: float, scale: float = 1.0
) -> dict[str, Any]:
    """Train a strategy on the stream; return final weights, and accuracies after each task."""
    from avalanche.benchmarks import tensors_benchmark

    def criterion(outputs: Tensor, targets: Tensor) -> Tensor:
        return scale * F.cross_entropy(outputs, targets)

    parts = {name: tensors(tasks) for name, tasks in data.items()}
    benchmark = tensors_benchmark(
        train_tensors=parts["train"],
        test_tensors=parts["test"],
        task_labels=[0] * TASKS,
        complete_test_set_only=False,
    )
    net = network(start())
    optimizer = torch.optim.SGD(net.parameters(), lr=rate / scale)
    strategy = make(model=net, optimizer=optimizer, criterion=criterion, evaluator=None)
    accuracies = []
    for experience in benchmark.train_stream:
        strategy.train(experience, shuffle=False)
        with torch.no_grad():
            right = [(net(x).argmax(1) == y).double().mean().item() for x, y in parts["test"]]
        accuracies.append([round(share, 4) for share in right])
    params = [np.round(p.detach().numpy(), 12).tolist() for p in net.parameters()]
    return {"params": params, "accuracies": accuracies}


def numbers(data: dict[str, list[Any]]) -> Callable[[Tensor], list[int]]:
    """Return a function that finds the numbers of samples, over all tasks, by their inputs."""
    inputs = itertools.chain.from_iterable(x for x, _ in data["train"])
    known = {tuple(x): i for i, x in enumerate(inputs)}
    assert len(known) == TASKS * TRAIN
    return lambda inputs: [known[tuple(x)] for x in inputs.tolist()]


def naive(data: dict[str, list[Any]]) -> dict[str, Any]:
    """SGD."""
    from avalanche.training.supervised import Naive

    def make(**base: Any) -> Any:
        return Naive(train_mb_size=BATCH, **base)

    return {"rate": 0.3, "batch": BATCH} | run(make, data, 0.3)


def ewc(data: dict[str, list[Any]], batch: int, epochs: int, rate: float) -> dict[str, Any]:
    """EWC; a strength of 3 here is twice that under a factor of 1/2."""
    from avalanche.training.supervised import EWC

    def make(**base: Any) -> Any:
        return EWC(ewc_lambda=3.0, train_mb_size=batch, train_epochs=epochs, **base)

    setting = {"rate": rate, "batch": batch, "epochs": epochs, "lambda": 3.0}
    return setting | run(make, data, rate)


def gem(data: dict[str, list[Any]], margin: float) -> dict[str, Any]:
    """GEM, with all of each task in memory."""
    from avalanche.training.plugins import GEMPlugin
    from avalanche.training.supervised import Naive

    class Counted(GEMPlugin):
        """Counts the gradients that are turned."""

        turned = 0

        def solve_quadprog(self, g: Tensor) -> Tensor:
            self.turned += 1
            return super().solve_quadprog(g)

    plugin = Counted(patterns_per_experience=TRAIN, memory_strength=margin)

    def make(**base: Any) -> Any:
        return Naive(train_mb_size=BATCH, plugins=[plugin], **base)

    ended = run(make, data, 0.2, SCALE)
    return {"rate": 0.2, "batch": BATCH, "margin": margin, "turned": plugin.turned} | ended


def replay(data: dict[str, list[Any]]) -> dict[str, Any]:
    """Replay from a reservoir, and which samples came with each batch."""
    from avalanche.training.plugins import ReplayPlugin, SupervisedPlugin
    from avalanche.training.storage_policy import ReservoirSamplingBuffer
    from avalanche.training.supervised import Naive

    number, replayed = numbers(data), []

    class Noted(SupervisedPlugin):
        """Notes what is in a batch beside the samples that arrive, which go first."""

        def before_forward(self, strategy: Any, **_: Any) -> None:
            replayed.append(number(strategy.mb_x[BATCH:]))

    torch.manual_seed(0)
    plugin = ReplayPlugin(
        mem_size=20, batch_size_mem=5, storage_policy=ReservoirSamplingBuffer(max_size=20)
    )

    def make(**base: Any) -> Any:
        return Naive(train_mb_size=BATCH, plugins=[plugin, Noted()], **base)

    ended = run(make, data, 0.3)
    return {"rate": 0.3, "batch": BATCH, "replayed": replayed} | ended


def mer(data: dict[str, list[Any]]) -> dict[str, Any]:
    """MER, and which samples each trajectory replayed."""
    from avalanche.training.supervised import MER

    number, replayed = numbers(data), []
    torch.manual_seed(0)
    setting = {"beta": 0.3, "gamma": 0.6}

    def make(**base: Any) -> Any:
        strategy = MER(mem_size=20, batch_size_mem=3, n_inner_steps=2, **setting, **base)
        get_batch = strategy.buffer.get_batch

        def noted(*batch: Tensor) -> Any:
            mixed = get_batch(*batch)
            replayed.append(number(mixed[0][1:]))
            return mixed

        strategy.buffer.get_batch = noted
        return strategy

    ended = run(make, data, 0.2)
    return {"rate": 0.2, "trajectories": 2, **setting, "replayed": replayed} | ended


def reservoir(runs: int = 4000, tasks: int = 3, each: int = 8, capacity: int = 4) -> dict[str, Any]:
    """Fill Avalanche's reservoir with a few tasks, many times.

    Returns
    -------
    dict
        How often each sample is held in the end, and how often as many of the first task.
    """
    from avalanche.benchmarks.utils import AvalancheDataset
    from avalanche.training.storage_policy import ReservoirSamplingBuffer

    torch.manual_seed(0)
    data = []
    for task in range(tasks):
        samples = torch.arange(task * each, (task + 1) * each)
        data.append(AvalancheDataset([torch.utils.data.TensorDataset(samples)]))
    kept, of_first = np.zeros(tasks * each, int), np.zeros(capacity + 1, int)
    for _ in range(runs):
        memory = ReservoirSamplingBuffer(capacity)
        for part in data:
            memory.update_from_dataset(part)
        held = np.array([int(memory.buffer[i][0]) for i in range(capacity)])
        kept[held] += 1
        of_first[(held < each).sum()] += 1
    return {
        "capacity": capacity,
        "runs": runs,
        "tasks": tasks,
        "kept": kept.tolist(),
        "of_first": of_first.tolist(),
    }


def main() -> None:
    """Write the file."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    data = stream()
    found = {
        "versions": {
            name: version(name) for name in ("avalanche-lib", "torch", "numpy", "quadprog")
        },
        "sizes": SIZES,
        "data": data,
        "start": start(),
        "naive": naive(data),
        "ewc of samples": ewc(data, batch=1, epochs=1, rate=0.05),
        "ewc of the mean": ewc(data, batch=TRAIN, epochs=10, rate=0.3),
        "gem": gem(data, margin=0.5),
        "gem without margin": gem(data, margin=0.0),
        "replay": replay(data),
        "mer": mer(data),
        "reservoir": reservoir(),
    }
    lines = [f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in found.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
