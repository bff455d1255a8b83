r"""Gradients of several batches at the same weights: their inner products and mixtures.

The gradient of a linear layer for one sample is a product :math:`d\,a^\top` of two vectors: what
comes back to the layer, and what goes in.  So the inner product of two samples' gradients is

.. math:: \sum_l (d_l \cdot d_l') (a_l \cdot a_l' + 1),

the 1 for the bias, and neither it nor a weighted sum of gradients needs any gradient written out.
With the memories of a hundred tasks that saves a matrix of a hundred rows as long as the weights.

Products and sums are always in double precision.  The factors have the precision of the weights;
in single precision the probability that is missing to a sample's own class is known to 6e-8 only,
as for any gradient by autograd.  A memory that is fitted may have a shorter one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..types import Batch, Params


class TaskGradients(Protocol):
    r"""Gradients :math:`g_1, \dots, g_k` of the mean loss on each of `k` batches."""

    def gram(self) -> np.ndarray:
        """Return all inner products, float64 [k, k]."""

    def mixture(self, weights: np.ndarray) -> Params:
        """Return the sum of the gradients with weights [k], for each parameter."""


class Stacked:
    """Gradients that are written out, of any network: that of each batch, by the same names."""

    def __init__(self, gradients: Sequence[Params]) -> None:
        self.like = gradients[0]
        flat = [torch.cat([g.flatten() for g in grads.values()]) for grads in gradients]
        self.rows = torch.stack(flat).double()  # [k, p]

    def gram(self) -> np.ndarray:
        """Return all inner products, float64 [k, k]."""
        rows = self.rows.numpy(force=True)
        return rows @ rows.T

    def mixture(self, weights: np.ndarray) -> Params:
        """Return the sum of the gradients with weights [k], for each parameter."""
        total = torch.from_numpy(weights).to(self.rows) @ self.rows
        parts = total.split([g.numel() for g in self.like.values()])
        return {
            n: p.view_as(g).to(g.dtype) for p, (n, g) in zip(parts, self.like.items(), strict=True)
        }


CANCELLED = 1e-12
"""A batch whose squared mean gradient is below this share of its samples' mean squared gradients
has none: they cancel, and what is left is rounding."""


class Factored:
    """Gradients of the cross-entropy of an MLP with ReLU, as their factors.

    Parameters
    ----------
    params : mapping of str to Tensor
        Weight [out, in] and bias [out] of each layer in turn.
    batches : sequence of Batch
        Inputs [n, ...] that flatten to the width of the first layer, and classes, int64 [n], at
        least one.
    exact : bool, default False
        Compute factors in double precision, and the probability that is missing to a sample's own
        class as the sum of the others, so that a short gradient has its digits, too.
    """

    @torch.no_grad()
    def __init__(
        self, params: Mapping[str, Tensor], batches: Sequence[Batch], *, exact: bool = False
    ) -> None:
        names = list(params)
        self.layers = list(zip(names[::2], names[1::2], strict=True))
        self.dtype = params[names[0]].dtype
        dtype = torch.float64 if exact else self.dtype
        params = {n: p.to(dtype) for n, p in params.items()}
        sizes = torch.tensor([len(b.targets) for b in batches])
        self.owner = torch.arange(len(batches)).repeat_interleave(sizes)  # of each sample
        self.share = 1 / sizes[self.owner].double()  # in the mean of its batch
        a = torch.cat([b.inputs.flatten(1) for b in batches]).to(dtype)
        self.ins = []  # what goes into each layer, [N, in]
        for weight, bias in self.layers:
            self.ins.append(a)
            z = F.linear(a, params[weight], params[bias])
            a = z.relu()
        targets = torch.cat([b.targets for b in batches])[:, None]
        back = z.softmax(1)
        others = back.scatter(1, targets, 0.0)
        missing = -others.sum(1, keepdim=True) if exact else back.gather(1, targets) - 1
        back = others.scatter(1, targets, missing)
        self.backs = [back]  # what comes back to it, [N, out]
        for (weight, _), a in zip(self.layers[:0:-1], self.ins[:0:-1], strict=True):
            back = (back @ params[weight]) * (a > 0)
            self.backs.insert(0, back)

    def gram(self) -> np.ndarray:
        """Return all inner products, float64 [k, k]."""
        count = len(self.owner)
        pairs = np.zeros((count, count))  # of all samples
        for ins, backs in zip(self.ins, self.backs, strict=True):
            a, d = ins.double().numpy(), backs.double().numpy()
            pairs += (d @ d.T) * (a @ a.T + 1)
        means = np.zeros((int(self.owner[-1]) + 1, count))
        means[self.owner, np.arange(count)] = self.share
        products = means @ pairs @ means.T
        none = products.diagonal() <= CANCELLED * (means @ pairs.diagonal())
        products[none] = products[:, none] = 0.0
        return products

    def mixture(self, weights: np.ndarray) -> Params:
        """Return the sum of the gradients with weights [k], for each parameter."""
        each = torch.from_numpy(weights)[self.owner] * self.share
        total: Params = {}
        for (weight, bias), a, back in zip(self.layers, self.ins, self.backs, strict=True):
            weighted = each[:, None] * back  # in double precision: a weight may be huge
            total |= {weight: weighted.t() @ a.double(), bias: weighted.sum(0)}
        return {n: g.to(self.dtype) for n, g in total.items()}
