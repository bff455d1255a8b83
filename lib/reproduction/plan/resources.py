"""What a run asks of the machine it is sent to, from its own definition: time and memory.

Schedulers stop a job that takes more than it asked for, and let a job wait that asks
for much.  So these are estimates with room to spare, and a second try asks for more.
"""

from __future__ import annotations

import functools
import math

import torch

from ..runs.experiment import Experiment, Planned

GPU_FLOPS = 1e12
"""Floating-point operations per second that a GPU is assumed to sustain in a run: a cautious
assumption, not a measurement.  Networks this small reach a few percent of a GPU's peak."""

MARGIN = 3
"""How many times the estimated time is asked for: cores differ, and are shared."""

_MINIMUM_MINUTES = 5  # to start Python and decode the data
_PROCESS_MB = 1000  # Python, torch and the compiler of the kernels; 550 were measured
_STREAM_MB = 1500  # images of three data sets, as bytes and, one task at a time, as numbers
_CUDA_MB = 3000  # the host's share of CUDA's libraries and context


def minutes(experiment: Planned, gpu: bool = False, attempt: int = 1) -> int:
    """Return the time to ask for."""
    seconds = experiment.flops() / GPU_FLOPS if gpu else experiment.seconds()
    return math.ceil(seconds / 60 * MARGIN * attempt) + _MINIMUM_MINUTES


def megabytes(experiment: Planned, gpu: bool = False, attempt: int = 1) -> int:
    """Return the memory to ask for, on the host."""
    if gpu:
        return (_PROCESS_MB + _CUDA_MB) * attempt
    if not isinstance(experiment, Experiment):  # a stream's data, and a small network
        return (_PROCESS_MB + _STREAM_MB) * attempt
    support, query = experiment.shots * experiment.ways, experiment.queries * experiment.ways
    images = 2 * max(support, query)
    if experiment.order == 2:  # a step's forward pass, its backward pass, and theirs
        images += 3 * support * experiment.inner_steps
    kept = images * _kept_for_backward(experiment)
    return math.ceil(_PROCESS_MB + kept / 1e6) * attempt


@functools.cache
def _kept_for_backward(experiment: Experiment) -> float:
    """Return the bytes that autograd keeps of one image's forward pass."""
    kept, images = 0, 2  # a batch normalisation needs two

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += 0 if isinstance(tensor, torch.nn.Parameter) else tensor.nbytes
        return tensor

    with torch.device("meta"):  # shapes without numbers
        network = experiment.build_network()
        inputs = torch.empty(
            images, experiment.channels, experiment.image_size, experiment.image_size
        )
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            network(inputs)
    return kept / images
