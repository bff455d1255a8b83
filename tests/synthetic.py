"""Small image sets, experiments and records for tests, made in memory."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import numpy as np

from reproduction.runs.experiment import Experiment
from reproduction.runs.osaka import FINAL, OsakaExperiment
from wheretolearn.continual.osaka.metrics import pack
from wheretolearn.data import ImageSet


def image_set(
    classes: tuple[int, int, int] = (10, 5, 6),
    per_class: int | list[int] = 12,
    size: int = 8,
    channels: int = 1,
    *,
    signal: float = 60.0,
    noise: float = 74.0,
    rotations: bool = False,
    seed: int = 0,
) -> ImageSet:
    """Return classes that differ in their upper two rows; below is loud noise.

    A network learns across tasks where to look, so meta-learning pays.
    """
    rng = np.random.default_rng(seed)
    n = sum(classes)
    counts = [per_class] * n if isinstance(per_class, int) else per_class
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    pixels = rng.normal(128, noise, (offsets[-1], size, size, channels))
    for c in range(n):
        pattern = 128 + signal * rng.choice([-1.0, 1.0], (2, size, channels))
        rows = slice(offsets[c], offsets[c + 1])
        pixels[rows, :2] = pattern + rng.normal(0, 20, (counts[c], 2, size, channels))
    images = np.clip(pixels, 0, 255).astype(np.uint8)
    ends = np.cumsum(classes)
    # interleaved, so that an index among the classes of a split is not a class index
    order = np.random.default_rng(1).permutation(n)
    splits = {
        name: tuple(sorted(int(c) for c in order[end - k : end]))
        for name, k, end in zip(("train", "val", "test"), classes, ends, strict=True)
    }
    return ImageSet(
        name="glyphs",
        images=images,
        classes=tuple(f"class{c:03}" for c in range(n)),
        offsets=offsets,
        splits=splits,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        rotations=rotations,
        fingerprint=hashlib.sha256(images.tobytes()).hexdigest(),
    )


TINY = Experiment(
    name="tiny",
    figure="fig1_sparsity_emerges",
    profile="smoke",
    data="glyphs",
    image_size=8,
    ways=3,
    shots=2,
    queries=3,
    network="mlp",
    width=6,
    method="sparse-maml",
    inner_rate=0.2,
    inner_steps=2,
    init_sparsity=0.5,
    meta_batch=2,
    updates=6,
    eval_every=2,
    val_tasks=3,
    test_tasks=4,
)
"""A run of milliseconds on `image_set`."""


def content(record: dict[str, Any]) -> dict[str, Any]:
    """Return what must be the same, to the bit, in two runs of the same thing."""
    return {k: v for k, v in record.items() if k not in ("provenance", "content_sha256")}


LAYER_SIZES = {
    "layer1.conv.weight": 200,
    "layer1.conv.bias": 10,
    "layer2.conv.weight": 400,
    "layer3.conv.weight": 400,
    "layer4.conv.weight": 400,
    "output.weight": 100,
}


OSAKA_SIZES = {
    "layer1.conv.weight": 200,
    "layer1.conv.bias": 10,
    "layer2.conv.weight": 400,
    "layer3.conv.weight": 400,
    "layer4.conv.weight": 400,
    "output.weight": 100,
    "output.bias": 5,
}

PROVENANCE = {
    "library_version": "0",
    "commit": None,
    "torch": "2",
    "python": "3",
    "device": "cpu",
    "processor": "none",
    "threads": 1,
    "finished": "2026-01-01T00:00:00+00:00",
    "wall_seconds": 1.0,
    "interruptions": 0,
}


def made_up_record(
    experiment: str,
    seed: int,
    *,
    sparsity: list[float] | None = None,
    layers: list[float] | None = None,
    accuracy: float = 0.5,
    diverged: bool = False,
) -> dict[str, Any]:
    """Return a record with given numbers; shares in [0, 1].

    Parameters
    ----------
    experiment, seed
        What the record is of.
    sparsity : list of float
        Total sparsity at each evaluation.
    layers : list of float
        Sparsity of each layer's kernel at the last evaluation.
    accuracy : float
        Mean test accuracy.
    diverged : bool
        Whether the run diverged.
    """
    sparsity = [0.5] * 8 if sparsity is None else sparsity
    layers = [0.5] * 5 if layers is None else layers
    kernels = [n for n in LAYER_SIZES if n.endswith("weight")]
    last = dict(zip(kernels, layers, strict=True))
    n = len(sparsity)
    return copy.deepcopy(
        {
            "schema_version": 1,
            "experiment": experiment,
            "profile": "study",
            "figure": "fig1_sparsity_emerges",
            "seed": seed,
            "parameters": {},
            "data": {"name": "glyphs", "fingerprint": "", "classes": {}},
            "tensors": LAYER_SIZES,
            "status": "diverged" if diverged else "finished",
            "diverged_at": 9 if diverged else None,
            "curves": {
                "update": list(range(n)),
                "train_loss": [None] + [1.0] * (n - 1),
                "train_accuracy": [None] + [0.5] * (n - 1),
                "val_loss": [1.0] * n,
                "val_accuracy": [0.5] * n,
                "sparsity": sparsity,
                "frozen": {
                    name: [0] * (n - 1) + [round(last.get(name, 0.0) * size)]
                    for name, size in LAYER_SIZES.items()
                },
            },
            "final": {
                "update": n - 1,
                "best_update": n - 1,
                "val_accuracy": 0.5,
                "test_accuracy": None
                if diverged
                else {"mean": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1, "n": 100},
                "test_loss": None if diverged else 1.0,
                "sparsity": sparsity[-1],
                "best_sparsity": sparsity[-1],
            },
            "provenance": PROVENANCE,
        }
    )


def made_up_osaka_record(
    experiment: OsakaExperiment,
    seed: int,
    correct: list[int] | None = None,
    *,
    diverged: dict[str, int] | None = None,
    curves: dict[str, Any] | None = None,
    **final: Any,
) -> dict[str, Any]:
    """Return a record of a run through OSAKA's stream with given numbers.

    Parameters
    ----------
    experiment, seed
        What the record is of.
    correct : list of int
        Correct images of each step.
    diverged : dict
        Where the run diverged, if it did.
    curves : dict
        Instead of empty ones.
    **final
        Numbers of the end; accuracy is 0.5 and the others are None by default.
    """
    end = dict.fromkeys(FINAL) | {"accuracy": 0.5, "gradients": 1000, "outer_steps": 7} | final
    correct = [10, 15] if correct is None else correct
    return copy.deepcopy(
        {
            "schema_version": 1,
            "kind": "osaka",
            "experiment": experiment.name,
            "profile": experiment.profile,
            "figure": experiment.figure,
            "seed": seed,
            "parameters": experiment.parameters(),
            "data": {"name": experiment.stream, "fingerprint": ""},
            "tensors": OSAKA_SIZES,
            "status": "diverged" if diverged else "finished",
            "diverged_at": diverged,
            "pretraining": None,
            "contexts": {"starts": [0], "sources": [0], "names": ["one", "two"]},
            "correct": pack(correct),
            "detected": pack([0] * len(correct)),
            "curves": {"step": [], "loss": [], "frozen": {}, "rates": {}, "numbers": {}}
            | (curves or {}),
            "final": dict.fromkeys(end) if diverged else end,
            "provenance": PROVENANCE,
        }
    )


def cells(table: str) -> list[list[str]]:
    """Return the cells of a Markdown table, line by line, its header and rule included."""
    return [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines()]


def planned_record(experiment: Experiment, seed: int = 0, **numbers: Any) -> dict[str, Any]:
    """Return a made-up record of an experiment, with its parameters."""
    record = made_up_record(experiment.name, seed, **numbers)
    return record | {"profile": experiment.profile, "parameters": experiment.parameters()}


def texts(artist: Any) -> list[str]:
    """Return everything that is written in a figure or in a panel, each in one line."""
    found = artist.findobj(lambda a: hasattr(a, "get_text"))
    return [" ".join(t.get_text().split()) for t in found if t.get_text()]
