r"""La-MAML's meta-gradient for a fully connected network, by hand.

The gradient of a linear layer for one sample is a product of two vectors,
:math:`g_j = d_j x_j^\top`, and the first layer always sees the same rows :math:`X`:
first the replayed, then the current ones.  So its weights never move in memory; what moves
is what they make of the rows,

.. math:: Z_k = Z_{k-1} - d_k \circ Q_k, \qquad
          Q_k[b, h] = \sum_p r_{hp} X_{bp} x_{kp},

where :math:`Q` is one matrix product for all steps.  With :math:`\Delta_k` the backward pass
at the first layer, [B, h], the sums over the steps go first,

.. math:: \sum_k G_k = \Big(\sum_k \Delta_k\Big)^{\!\top} X, \qquad
          \sum_k G_k \circ \sum_{j \le k} g_j = \sum_{b, j}
          \Big(d_j \circ \sum_{k \ge j} \Delta_{kb}\Big) (X_b \circ x_j)^\top ,

each one matrix product as well.  The other layers are small: a compiled loop learns the samples
one by one and keeps the weights after each, and then all those networks are judged at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..types import Batch, Rates, ReplayGradient
from . import compiled

Arrays = tuple[np.ndarray, ...]


@torch.no_grad()
def meta_gradient(
    params: Mapping[str, Tensor],
    rates: Rates,
    current: Batch,
    replay: Batch,
    *,
    learn_rates: bool = True,
) -> ReplayGradient:
    """Compute what :func:`~wheretolearn.continual.la_maml.by_autograd` finds.

    The network is an MLP with ReLU, the loss is cross-entropy, the device is the CPU.
    """
    (first, first_bias), *later = _layers(params)
    n = len(current.targets)
    x = torch.cat([replay.inputs.flatten(1), current.inputs.flatten(1)])  # [B, p]
    targets = torch.cat([replay.targets, current.targets])  # [B]

    # learn the samples one by one
    products = (x[-n:, None] * x).flatten(0, 1)  # [n * B, p]
    rate = torch.as_tensor(rates.get(first, 0.0), dtype=x.dtype)
    q = products @ rate.t() if rate.ndim else rate * products.sum(1, keepdim=True)
    q = q.view(n, len(x), -1) + full(rates.get(first_bias, 0.0), params[first_bias])  # [n, B, h]
    z = torch.addmm(params[first_bias], x, params[first].t())  # [B, h]
    fast, moved, d = _learn(params, rates, later, z[-n:], q[:, -n:], current.targets)

    # judge the networks after each of them, all at once
    upto = x.new_ones(n, n).tril()  # upto @ v: sums over j <= k
    after = z - (upto @ (d[0][:, None] * q).flatten(1)).view_as(q)  # [n, B, h]
    inputs = []
    for theta in fast:  # [n, out, in + 1]
        inputs.append(after.relu())
        after = torch.baddbmm(theta[:, None, :, -1], inputs[-1], theta[:, :, :-1].mT)
    share = F.one_hot(targets, after.shape[2]).to(x.dtype) / (n * len(x))  # [B, classes]
    logs = after.log_softmax(2)  # [n, B, classes]
    loss = -(share * logs).sum()
    deltas = [logs.exp() / (n * len(x)) - share]
    for theta, a in zip(reversed(fast), reversed(inputs), strict=True):
        deltas.append(torch.bmm(deltas[-1], theta[:, :, :-1]).mul_(a.sign()))
    deltas.reverse()  # gradients of the meta-loss at what the layers put out, [n, B, out] each

    sums = (upto.t() @ deltas[0].flatten(1)).view_as(deltas[0])  # over k >= j, [n, B, h]
    grads = {first: sums[0].t() @ x, first_bias: sums[0].sum(0)}
    for (w, b), delta, a in zip(later, deltas[1:], inputs, strict=True):
        grads |= {w: delta.flatten(0, 1).t() @ a.flatten(0, 1), b: delta.sum((0, 1))}
    if not learn_rates:
        return ReplayGradient(loss, grads, {})
    rate_grads = {
        first: (-d[0][:, None] * sums).flatten(0, 1).t() @ products,
        first_bias: -(d[0] * sums.sum(1)).sum(0),
    }
    for (w, b), delta, a, g in zip(later, deltas[1:], inputs, moved, strict=True):
        rate_grads[w] = -(delta.mT @ a * g[:, :, :-1]).sum(0)
        rate_grads[b] = -(delta.sum(1) * g[:, :, -1]).sum(0)
    return ReplayGradient(loss, grads, {m: rate_grads[m] for m in rates})


def full(rate: Tensor | float, p: Tensor) -> Tensor:
    """Return a rate as a tensor of its parameter's shape, detached."""
    return torch.as_tensor(rate, dtype=p.dtype, device=p.device).detach().expand(p.shape)


class _Layer(NamedTuple):
    """The names of a layer's parameters."""

    weight: str
    bias: str


def _layers(params: Mapping[str, Tensor]) -> list[_Layer]:
    """Pair the parameters of an MLP: weight and bias, layer by layer."""
    names = list(params)
    layers = [_Layer(w, b) for w, b in zip(names[::2], names[1::2], strict=False)]
    shapes = [(params[w].shape, params[b].shape) for w, b in layers]
    fits = len(names) == 2 * len(layers) >= 4 and all(len(w) == 2 and b == w[:1] for w, b in shapes)
    if not fits or any(w[0] != v[1] for (w, _), (v, _) in pairwise(shapes)):
        found = {n: list(p.shape) for n, p in params.items()}
        raise ValueError(f"weight and bias of two or more layers expected, found {found}")
    return layers


def _learn(
    params: Mapping[str, Tensor],
    rates: Rates,
    later: list[_Layer],
    z: Tensor,
    q: Tensor,
    targets: Tensor,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Learn the `n` samples one by one."""
    n = len(targets)
    start = [torch.cat([params[w], params[b][:, None]], 1) for w, b in later]
    rate = [
        torch.cat([full(rates.get(m, 0.0), params[m]).view(len(p), -1) for m in layer], 1)
        for layer, p in zip(later, start, strict=True)
    ]
    fast, moved = ([p.new_empty(n + 1, *p.shape) for p in start] for _ in range(2))
    for w, g, p in zip(fast, moved, start, strict=True):
        w[0], g[0] = p, 0
    d = [z.new_empty(n, size) for size in (z.shape[1], *(len(p) for p in start))]
    hidden = [p.new_empty(p.shape[1] - 1) for p in start]
    tensors = (rate, fast, moved, hidden, d)
    _learn_kernel(
        z.clone().numpy(),
        q.contiguous().numpy(),
        targets.numpy(),
        *(tuple(t.numpy() for t in several) for several in tensors),
    )
    return [w[1:] for w in fast], [g[1:] for g in moved], d


jit = compiled.jit("contract", "reassoc")


@jit
def _learn_kernel(
    z: np.ndarray,
    q: np.ndarray,
    targets: np.ndarray,
    rate: Arrays,
    fast: Arrays,
    moved: Arrays,
    hidden: Arrays,
    d: Arrays,
) -> None:
    n, depth = len(z), len(fast)
    for k in range(n):
        out = z[k]
        for i in range(depth):  # forward
            a, w = hidden[i], fast[i][k]
            for p in range(len(a)):
                a[p] = max(out[p], 0)
            out = d[i + 1][k]
            for o in range(len(out)):
                v = w[o, -1]
                for p in range(len(a)):
                    v += w[o, p] * a[p]
                out[o] = v
        out[:] = np.exp(out - out.max())
        out /= out.sum()
        out[targets[k]] -= 1
        for i in range(depth - 1, -1, -1):  # back, and a step
            out, a, back = d[i + 1][k], hidden[i], d[i][k]
            w, stepped, r = fast[i][k], fast[i][k + 1], rate[i]
            total, new_total = moved[i][k], moved[i][k + 1]
            back[:] = 0
            for o in range(len(out)):
                for p in range(len(a)):
                    g = out[o] * a[p]
                    back[p] += out[o] * w[o, p]
                    stepped[o, p] = w[o, p] - r[o, p] * g
                    new_total[o, p] = total[o, p] + g
                stepped[o, -1] = w[o, -1] - r[o, -1] * out[o]
                new_total[o, -1] = total[o, -1] + out[o]
            for p in range(len(a)):
                if not a[p] > 0:
                    back[p] = 0
        for later in range(k + 1, n):
            z[later] -= d[0][k] * q[k, later]
