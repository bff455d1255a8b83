r"""Gradient steps on single samples for a fully connected network, by hand.

The gradient of a linear layer for one sample is a product :math:`d\,a^\top` of two vectors, so a
step costs one pass over the weights to see the sample and one to move them.  This is what makes
thousands of them cheap.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..types import Batch, Params
from .mlp import jit

Arrays = tuple[np.ndarray, ...]


def descend(
    params: Mapping[str, Tensor], samples: Batch, rate: float
) -> tuple[Params, list[float]]:
    """Take one step of gradient descent on each sample in turn.

    The network is an MLP with ReLU, the loss is cross-entropy, the device is the CPU.
    """
    moved = {n: p.detach().clone(memory_format=torch.contiguous_format) for n, p in params.items()}
    arrays = [p.numpy() for p in moved.values()]
    weights, biases = tuple(arrays[::2]), tuple(arrays[1::2])
    x = samples.inputs.flatten(1).contiguous().numpy()
    losses = np.empty(len(x))
    outs = tuple(np.empty_like(b) for b in biases)
    backs = tuple(np.empty_like(b) for b in biases)
    _descend(weights, biases, x, samples.targets.numpy(), rate, outs, backs, losses)
    return moved, losses.tolist()


@jit
def _forward(weights: Arrays, biases: Arrays, a: np.ndarray, outs: Arrays) -> None:
    """Write what each layer puts out; of hidden ones, what their ReLU leaves."""
    depth = len(weights)
    for i in range(depth):
        w, out = weights[i], outs[i]
        for o in range(len(out)):
            v = biases[i][o]
            for p in range(len(a)):
                v += w[o, p] * a[p]
            out[o] = v if i == depth - 1 or v > 0 else 0
        a = out


@jit
def _descend(
    weights: Arrays,
    biases: Arrays,
    x: np.ndarray,
    targets: np.ndarray,
    rate: float,
    outs: Arrays,
    backs: Arrays,
    losses: np.ndarray,
) -> None:
    depth = len(weights)
    for k in range(len(x)):
        _forward(weights, biases, x[k], outs)
        top, d = outs[depth - 1], backs[depth - 1]
        shift = top.max()
        total = np.log(np.exp(top - shift).sum())
        losses[k] = shift + total - top[targets[k]]
        d[:] = np.exp(top - shift - total)
        d[targets[k]] -= 1
        for i in range(depth - 1, 0, -1):  # back, before anything moves
            a, d, below, w = outs[i - 1], backs[i], backs[i - 1], weights[i]
            below[:] = 0
            for o in range(len(d)):
                for p in range(len(a)):
                    below[p] += d[o] * w[o, p]
            for p in range(len(a)):
                if not a[p] > 0:
                    below[p] = 0
        step = x.dtype.type(rate)
        for i in range(depth):
            a, d, w, b = (outs[i - 1] if i else x[k]), backs[i], weights[i], biases[i]
            for o in range(len(d)):
                by = step * d[o]
                for p in range(len(a)):
                    w[o, p] -= by * a[p]
                b[o] -= by
