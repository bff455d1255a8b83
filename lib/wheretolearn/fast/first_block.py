r"""The first block of a network on grey images, without its feature map.

A block convolves, normalises by the batch, applies ReLU and pools.  For images of one channel a
pixel of the feature map is :math:`z_k = w_k \cdot p`, with the patch `p` of its nine neighbours, so
what the normalisation needs follows from the patches alone, which stay the same while weights move:

.. math:: \mu_k = w_k \cdot \bar p, \qquad \sigma_k^2 = w_k^\top C\, w_k + \epsilon,

with their mean :math:`\bar p` and covariance :math:`C` over all pixels.  With
:math:`g = \partial L/\partial y \cdot \mathrm{ReLU}'` at the pixels that the pooling chose, the
gradient is

.. math:: \frac{\partial L}{\partial w_k} = \frac{\gamma_k}{\sigma_k} \Big(\sum g\,p
          - \bar p \sum g - \frac{C w_k}{\sigma_k^2} \sum g\,(z_k - \mu_k)\Big),

which is that of :mod:`wheretolearn.fast.kernels` times the patches, summed.  So neither the feature
map, four times as large as what leaves the block, nor its gradient is ever written.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .kernels import Array, jit


class Survey(NamedTuple):
    """Grey images, and what a normalisation of their convolution needs to know of them."""

    images: Array
    """With a border of zeros, [B, H + 2, W + 2]."""
    mean: Array
    """Mean patch over all pixels, float64 [9]."""
    covariance: Array
    """Covariance of the patches over all pixels, float64 [9, 9]."""


def survey(images: Array) -> Survey:
    """Measure the patches of images [B, H, W]."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    h, w = images.shape[1:]
    rows = np.stack([padded[:, i : i + h, j : j + w].ravel() for i in range(3) for j in range(3)])
    rows = rows.astype(np.float64)  # [9, B*H*W]
    mean = rows.mean(1)
    rows -= mean[:, None]
    return Survey(padded, mean, rows @ rows.T / rows.shape[1])


@jit
def _moments(patch: Array, covariance: Array, taps: Array, eps: float, moments: Array) -> None:
    """Find C w (rows 0 to 8), the mean (9) and 1/sigma (10) of each channel."""
    for k in range(taps.shape[1]):
        centre, variance = 0.0, 0.0
        for t in range(9):
            spread = 0.0
            for u in range(9):
                spread += covariance[t, u] * taps[u, k]
            moments[t, k] = spread
            centre += patch[t] * taps[t, k]
            variance += spread * taps[t, k]
        moments[9, k] = centre
        moments[10, k] = 1 / np.sqrt(variance + eps)


@jit
def first_forward(
    x: Array,
    patch: Array,
    covariance: Array,
    kernel: Array,
    weight: Array,
    bias: Array,
    eps: float,
    moments: Array,
    y: Array,
    top: Array,
    place: Array,
) -> None:
    """Convolve, normalise, apply ReLU and pool: from a survey to y [B, H // 2, W // 2, C].

    Top becomes what the pooling chose, of the convolution, and place which of its four pixels that
    was, both of the shape and type of y; moments, float64 [11, C], become C w (rows 0 to 8), the
    mean (9) and 1/sigma (10).  The kernel is [C, 9].
    """
    b, h, w, c = y.shape
    taps = kernel.T.copy()
    _moments(patch, covariance, taps, eps, moments)
    scale = (weight * moments[10]).astype(x.dtype)
    shift = (bias - moments[9] * scale).astype(x.dtype)
    sign = np.sign(weight)  # at 0 all pixels are equal, and the first is taken, as torch does
    zero, one, two, three = np.arange(4).astype(x.dtype)
    for n in range(b):
        for i in range(h):
            r0, r1, r2, r3 = x[n, 2 * i], x[n, 2 * i + 1], x[n, 2 * i + 2], x[n, 2 * i + 3]
            for j in range(w):
                p = 2 * j  # the 4 x 4 pixels that four neighbouring patches cover
                a0, a1, a2, a3 = r0[p], r0[p + 1], r0[p + 2], r0[p + 3]
                b0, b1, b2, b3 = r1[p], r1[p + 1], r1[p + 2], r1[p + 3]
                c0, c1, c2, c3 = r2[p], r2[p + 1], r2[p + 2], r2[p + 3]
                d0, d1, d2, d3 = r3[p], r3[p + 1], r3[p + 2], r3[p + 3]
                out, best, where = y[n, i, j], top[n, i, j], place[n, i, j]
                for k in range(c):
                    w0, w1, w2 = taps[0, k], taps[1, k], taps[2, k]
                    w3, w4, w5 = taps[3, k], taps[4, k], taps[5, k]
                    w6, w7, w8 = taps[6, k], taps[7, k], taps[8, k]
                    s = sign[k]
                    first = a0 * w0 + a1 * w1 + a2 * w2
                    first += b0 * w3 + b1 * w4 + b2 * w5
                    first += c0 * w6 + c1 * w7 + c2 * w8
                    v = first * s
                    at = zero
                    u = a1 * w0 + a2 * w1 + a3 * w2
                    u += b1 * w3 + b2 * w4 + b3 * w5
                    u += c1 * w6 + c2 * w7 + c3 * w8
                    u *= s
                    at = one if u > v else at
                    v = u if u > v else v
                    u = b0 * w0 + b1 * w1 + b2 * w2
                    u += c0 * w3 + c1 * w4 + c2 * w5
                    u += d0 * w6 + d1 * w7 + d2 * w8
                    u *= s
                    at = two if u > v else at
                    v = u if u > v else v
                    u = b1 * w0 + b2 * w1 + b3 * w2
                    u += c1 * w3 + c2 * w4 + c3 * w5
                    u += d1 * w6 + d2 * w7 + d3 * w8
                    u *= s
                    at = three if u > v else at
                    v = u if u > v else v
                    v = v * s if s != zero else first
                    best[k] = v
                    where[k] = at
                    v = v * scale[k] + shift[k]
                    out[k] = zero if v <= zero else v  # NaN stays NaN


@jit
def first_backward(
    dy: Array,
    y: Array,
    x: Array,
    top: Array,
    place: Array,
    patch: Array,
    weight: Array,
    moments: Array,
    found: Array,
) -> None:
    """Find the gradients of kernel, weight and bias: found [11, C], rows 0 to 8, 9 and 10."""
    b, h, w, c = y.shape
    centre, inv = moments[9].astype(x.dtype), moments[10]
    sums = np.zeros((11, c))  # of g times the patch (rows 0 to 8), g (9) and g (z - mean) (10)
    zero, one, two, three = np.arange(4).astype(x.dtype)
    part = np.empty((11, c), x.dtype)  # of an image
    chosen = np.empty((4, c), x.dtype)  # g at the chosen one of four pixels
    g0, g1, g2, g3 = chosen[0], chosen[1], chosen[2], chosen[3]
    for n in range(b):
        part[:] = zero
        for i in range(h):
            for j in range(w):
                up, out, best, where = dy[n, i, j], y[n, i, j], top[n, i, j], place[n, i, j]
                for k in range(c):
                    g = up[k] if out[k] > zero else zero
                    g0[k] = g if where[k] == zero else zero
                    g1[k] = g if where[k] == one else zero
                    g2[k] = g if where[k] == two else zero
                    g3[k] = g if where[k] == three else zero
                for k in range(c):
                    g = g0[k] + g1[k] + g2[k] + g3[k]
                    part[9, k] += g
                    part[10, k] += g * (best[k] - centre[k])
                p = 2 * j
                for q in range(3):
                    upper, lower = x[n, 2 * i + q], x[n, 2 * i + q + 1]
                    u0, u1, u2, u3 = upper[p], upper[p + 1], upper[p + 2], upper[p + 3]
                    l0, l1, l2, l3 = lower[p], lower[p + 1], lower[p + 2], lower[p + 3]
                    for k in range(c):
                        h0, h1, h2, h3 = g0[k], g1[k], g2[k], g3[k]
                        part[3 * q, k] += h0 * u0 + h1 * u1 + h2 * l0 + h3 * l1
                        part[3 * q + 1, k] += h0 * u1 + h1 * u2 + h2 * l1 + h3 * l2
                        part[3 * q + 2, k] += h0 * u2 + h1 * u3 + h2 * l2 + h3 * l3
        for r in range(11):
            for k in range(c):
                sums[r, k] += part[r, k]
    for k in range(c):
        total, product = sums[9, k], sums[10, k]
        for t in range(9):
            away = patch[t] * total + moments[t, k] * inv[k] ** 2 * product
            found[t, k] = weight[k] * inv[k] * (sums[t, k] - away)
        found[9, k] = product * inv[k]
        found[10, k] = total
