r"""Batch normalisation, activation and pooling in one pass over memory.

After a convolution a small network waits for memory, not for arithmetic: the
usual chain reads and writes the full feature map some ten times.  The kernels
here, compiled by Numba for the processor at hand, read it three times and write
its gradient once.  They compute, for each channel,

.. math:: y = \mathrm{act}\big(\gamma\,(\mathrm{pool}(z) - \mu)/\sigma + \beta\big),
          \qquad \mathrm{act}(v) = \max(v, 0) + s\,\min(v, 0),

with the mean and the variance of the whole batch, and pooling before everything
else: normalisation is monotonous, so the largest pixel stays the largest (for a
negative :math:`\gamma` the smallest becomes it).  Backwards, with
:math:`g = \partial L/\partial y \cdot \mathrm{act}'` put back to where the largest
pixel stood, `M` pixels a channel, and :math:`\hat z = (z - \mu)/\sigma`,

.. math:: \frac{\partial L}{\partial z} = \frac{\gamma}{\sigma}\Big(g - \frac{1}{M}\sum g
          - \frac{\hat z}{M}\sum g\,\hat z\Big), \qquad
          \frac{\partial L}{\partial\beta} = \sum g, \qquad
          \frac{\partial L}{\partial\gamma} = \sum g\,\hat z .

:func:`reference` says the same in three lines of torch, and is what runs where a second derivative
is asked for.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import compiled

Array = np.ndarray


def norm_act(
    z: Tensor, weight: Tensor, bias: Tensor, *, slope: float = 0.0, pool: int = 1, eps: float = 1e-5
) -> Tensor:
    """Normalise by the batch, apply a (leaky) ReLU, and pool."""
    # outside of the node: inside, autograd would lose sight of a copy
    z = z.contiguous(memory_format=torch.channels_last)
    return _NormAct.apply(z, weight, bias, slope, pool, eps)


def reference(
    z: Tensor, weight: Tensor, bias: Tensor, *, slope: float = 0.0, pool: int = 1, eps: float = 1e-5
) -> Tensor:
    """Do what :func:`norm_act` does with torch's own operations."""
    y = F.batch_norm(z, None, None, weight, bias, training=True, eps=eps)
    if pool > 1:
        y = F.max_pool2d(y, pool)
    return F.leaky_relu(y, slope) if slope else F.relu(y)


class _NormAct(torch.autograd.Function):
    """The kernels as one node of the autograd graph."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, weight: Tensor, bias: Tensor, slope: float, pool: int, eps: float
    ) -> Tensor:
        b, c, h, w = z.shape
        mean, inv = weight.new_empty(c), weight.new_empty(c)  # 1/sigma
        batch_statistics(_nhwc(z), eps, _array(mean), _array(inv))
        y = _like(z, (b, c, h // pool, w // pool))
        saved = [z, weight, bias, y, mean, inv]
        numbers = [_array(t) for t in (weight, bias, mean, inv)]
        if pool == 1:
            _forward(_nhwc(z), *numbers, slope, _nhwc(y))
        else:
            top, place = torch.empty_like(y), torch.empty_like(y, dtype=torch.uint8)
            saved += [top, place]
            pool_forward(_nhwc(z), *numbers, slope, _nhwc(y), _nhwc(top), _nhwc(place))
        ctx.save_for_backward(*saved)
        ctx.settings = {"slope": slope, "pool": pool, "eps": eps}
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (dy,) = gradients
        z, weight, bias, y, mean, inv, *pooled = ctx.saved_tensors
        if torch.is_grad_enabled():  # a graph of the gradient is asked for: second order
            out = reference(z, weight, bias, **ctx.settings)
            wanted = [t for t in (z, weight, bias) if t.requires_grad]
            grads = iter(torch.autograd.grad(out, wanted, dy, create_graph=True))
            given = [next(grads) if t.requires_grad else None for t in (z, weight, bias)]
            return *given, None, None, None
        dz, dweight, dbias = torch.empty_like(z), torch.empty_like(weight), torch.empty_like(bias)
        dy = dy.contiguous(memory_format=torch.channels_last)
        numbers = [_array(t) for t in (weight, mean, inv)]
        out_arrays = (_nhwc(dz), _array(dweight), _array(dbias))
        slope = ctx.settings["slope"]
        if ctx.settings["pool"] == 1:
            _backward(_nhwc(dy), _nhwc(y), _nhwc(z), *numbers, slope, *out_arrays)
        else:
            top, place = (_nhwc(t) for t in pooled)
            pool_backward(_nhwc(dy), _nhwc(y), _nhwc(z), top, place, *numbers, slope, *out_arrays)
        return dz, dweight, dbias, None, None, None


def _like(z: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=z.dtype, memory_format=torch.channels_last)


def _array(x: Tensor) -> Array:
    return x.detach().numpy()


def _nhwc(x: Tensor) -> Array:
    return _array(x).transpose(0, 2, 3, 1)  # a view [B, H, W, C]


# The innermost loop always runs over the channels, which lie side by side in memory,
# and touches few arrays, so that the compiler turns it into vector instructions.
jit = compiled.jit("contract", "nsz")


@jit
def batch_statistics(z: Array, eps: float, mean: Array, inv: Array) -> None:
    """Mean and 1/sqrt(variance + eps) of each channel, image by image (Chan et al., 1979)."""
    b, h, w, c = z.shape
    total, squares = np.zeros(c), np.zeros(c)  # float64: sum, and sum of squared deviations
    part, centre = np.empty(c, z.dtype), np.empty(c, z.dtype)
    for n in range(b):
        part[:] = 0
        for i in range(h):
            for j in range(w):
                x = z[n, i, j]
                for k in range(c):
                    part[k] += x[k]
        for k in range(c):
            centre[k] = part[k] / (h * w)
            if n > 0:
                apart = part[k] / (h * w) - total[k] / (n * h * w)
                squares[k] += apart * apart * (n * h * w) / (n + 1)
            total[k] += part[k]
        part[:] = 0
        for i in range(h):
            for j in range(w):
                x = z[n, i, j]
                for k in range(c):
                    part[k] += (x[k] - centre[k]) ** 2
        for k in range(c):
            squares[k] += part[k]
    for k in range(c):
        mean[k] = total[k] / (b * h * w)
        inv[k] = 1 / np.sqrt(squares[k] / (b * h * w) + eps)


@numba.njit(inline="always")
def _act(v, slope):
    return v * slope if v <= 0 else v  # NaN stays NaN


@jit
def _forward(
    z: Array, weight: Array, bias: Array, mean: Array, inv: Array, slope: float, y: Array
) -> None:
    b, h, w, c = z.shape
    scale = weight * inv
    shift = bias - mean * scale
    s = z.dtype.type(slope)
    for n in range(b):
        for i in range(h):
            for j in range(w):
                x, out = z[n, i, j], y[n, i, j]
                for k in range(c):
                    out[k] = _act(x[k] * scale[k] + shift[k], s)


@jit
def pool_forward(
    z: Array,
    weight: Array,
    bias: Array,
    mean: Array,
    inv: Array,
    slope: float,
    y: Array,
    top: Array,
    place: Array,
) -> None:
    """Pool, normalise and apply the activation; top is what the pooling took, place which pixel."""
    b, h, w, c = y.shape
    scale = weight * inv
    shift = bias - mean * scale
    sign = np.sign(weight)  # at 0 all pixels are equal, and the first is taken, as torch does
    s = z.dtype.type(slope)
    for n in range(b):
        for i in range(h):
            for j in range(w):
                x00, x01 = z[n, 2 * i, 2 * j], z[n, 2 * i, 2 * j + 1]
                x10, x11 = z[n, 2 * i + 1, 2 * j], z[n, 2 * i + 1, 2 * j + 1]
                best, where = top[n, i, j], place[n, i, j]
                for k in range(c):
                    v = x00[k] * sign[k]
                    at = 0
                    u = x01[k] * sign[k]
                    at = 1 if u > v else at
                    v = u if u > v else v
                    u = x10[k] * sign[k]
                    at = 2 if u > v else at
                    v = u if u > v else v
                    u = x11[k] * sign[k]
                    at = 3 if u > v else at
                    v = u if u > v else v
                    best[k] = v * sign[k] if sign[k] != 0 else x00[k]
                    where[k] = at
                out = y[n, i, j]
                for k in range(c):
                    out[k] = _act(best[k] * scale[k] + shift[k], s)


@jit
def _backward(
    dy: Array,
    y: Array,
    z: Array,
    weight: Array,
    mean: Array,
    inv: Array,
    slope: float,
    dz: Array,
    dweight: Array,
    dbias: Array,
) -> None:
    b, h, w, c = z.shape
    s = z.dtype.type(slope)
    _sums(dy, y, z, mean, inv, s, dweight, dbias)
    scale, k0, k1 = _coefficients(weight, mean, inv, dweight, dbias, b * h * w)
    for n in range(b):
        for i in range(h):
            for j in range(w):
                up, out, x, d = dy[n, i, j], y[n, i, j], z[n, i, j], dz[n, i, j]
                for k in range(c):
                    g = up[k] if out[k] > 0 else up[k] * s
                    d[k] = k0[k] + k1[k] * x[k] + scale[k] * g


@jit
def pool_backward(
    dy: Array,
    y: Array,
    z: Array,
    top: Array,
    place: Array,
    weight: Array,
    mean: Array,
    inv: Array,
    slope: float,
    dz: Array,
    dweight: Array,
    dbias: Array,
) -> None:
    """Find the gradients of what :func:`pool_forward` was given, from that of y."""
    b, h, w, c = z.shape
    s = z.dtype.type(slope)
    _sums(dy, y, top, mean, inv, s, dweight, dbias)
    scale, k0, k1 = _coefficients(weight, mean, inv, dweight, dbias, b * h * w)
    g, at = np.empty(c, z.dtype), np.empty(c, np.int32)
    for n in range(b):
        for i in range(h // 2):
            for j in range(w // 2):
                up, out, where = dy[n, i, j], y[n, i, j], place[n, i, j]
                for k in range(c):
                    g[k] = scale[k] * (up[k] if out[k] > 0 else up[k] * s)
                    at[k] = where[k]
                for q in range(4):
                    x, d = z[n, 2 * i + q // 2, 2 * j + q % 2], dz[n, 2 * i + q // 2, 2 * j + q % 2]
                    for k in range(c):
                        d[k] = k0[k] + k1[k] * x[k] + (g[k] if at[k] == q else 0)
        for i in range(h):  # the last row and column, where the side is odd
            for j in range(2 * (w // 2) if i < 2 * (h // 2) else 0, w):
                x, d = z[n, i, j], dz[n, i, j]
                for k in range(c):
                    d[k] = k0[k] + k1[k] * x[k]


@jit
def _sums(
    dy: Array, y: Array, z: Array, mean: Array, inv: Array, s: float, dweight: Array, dbias: Array
) -> None:
    """Sum g and g * zhat: the gradients of bias and weight."""
    b, h, w, c = y.shape
    total, product = np.zeros(c), np.zeros(c)
    part, cross = np.empty(c, z.dtype), np.empty(c, z.dtype)
    for n in range(b):
        part[:] = 0
        cross[:] = 0
        for i in range(h):
            for j in range(w):
                up, out, x = dy[n, i, j], y[n, i, j], z[n, i, j]
                for k in range(c):
                    g = up[k] if out[k] > 0 else up[k] * s
                    part[k] += g
                    cross[k] += g * (x[k] - mean[k])
        for k in range(c):
            total[k] += part[k]
            product[k] += cross[k]
    for k in range(c):
        dbias[k] = total[k]
        dweight[k] = product[k] * inv[k]


@jit
def _coefficients(
    weight: Array, mean: Array, inv: Array, dweight: Array, dbias: Array, pixels: int
) -> tuple[Array, Array, Array]:
    """Return scale, k0, k1 of dz = scale * g + k0 + k1 * z."""
    scale = weight * inv
    k1 = -scale * inv * dweight / weight.dtype.type(pixels)
    k0 = -scale * dbias / weight.dtype.type(pixels) - k1 * mean
    return scale, k0, k1
