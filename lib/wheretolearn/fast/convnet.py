"""The gradient of ConvNet-4 on grey images by hand: the inner loop's hot path on a CPU.

A step of an inner loop on 25 small images is a few dozen short operations, so what autograd adds to
each of them matters, and so does every pass over the first feature map.
Here the chain rule is written out once, for the cross-entropy of one batch: the first block by
:mod:`wheretolearn.fast.first_block`, the others by torch's convolutions and the kernels of
:mod:`wheretolearn.fast.kernels`.  The numbers are those of autograd, up to rounding.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..types import Params
from .first_block import Survey, first_backward, first_forward, survey
from .kernels import Array, batch_statistics, pool_backward, pool_forward

_BLOCKS = ("layer1", "layer2", "layer3", "layer4")
_OF_A_BLOCK = ("conv.weight", "conv.bias", "norm.weight", "norm.bias")
_NAMES = {*(f"{b}.{n}" for b in _BLOCKS for n in _OF_A_BLOCK), "output.weight", "output.bias"}


def gradient(
    module: Any,
    criterion: Any,
    params: Mapping[str, Tensor],
    inputs: Tensor,
    targets: Tensor,
    wanted: Collection[str],
) -> ByHand | None:
    """Return the gradient of a loss on a batch by hand, if it can be had."""
    possible = (
        criterion is F.cross_entropy
        and inputs.device.type == "cpu"
        and inputs.ndim == 4
        and inputs.shape[1] == 1
        and inputs.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and targets.dtype == torch.int64
        and targets.shape == inputs.shape[:1]
        and bool((targets >= 0).all())
        and any(n.startswith("layer1.") for n in wanted)
        and params.keys() == _NAMES
        and all(p.dtype == inputs.dtype for p in params.values())
        and type(module).__qualname__ == "ConvNet4"
        and getattr(module, "as_built", bool)()
    )
    return ByHand(module, inputs, targets, wanted) if possible else None


class ByHand:
    """The gradient of the mean cross-entropy on one batch, at any parameters."""

    def __init__(
        self, module: nn.Module, images: Tensor, targets: Tensor, wanted: Collection[str]
    ) -> None:
        self.survey = survey(images.detach().squeeze(1).numpy())
        self.targets = targets
        self.wanted = wanted
        self.eps = {n: cast(Any, module.get_submodule(n)).norm.eps for n in _BLOCKS}

    @torch.no_grad()
    def __call__(self, params: Mapping[str, Tensor]) -> Params:
        """Return the gradient for each wanted parameter, at all of them."""
        first, blocks = _FirstBlock(self.survey, "layer1", params, self.eps["layer1"]), []
        y = first.y
        for name in _BLOCKS[1:]:
            blocks.append(_Block(y, name, params, self.eps[name]))
            y = blocks[-1].y
        grads, dy = self._head(y, params)
        for block in reversed(blocks):
            found, dy = block.backward(dy, block.name + ".conv.weight" in self.wanted)
            grads |= found
        grads |= first.backward(dy)
        return {n: grads[n] for n in self.wanted}

    def _head(self, y: Array, params: Mapping[str, Tensor]) -> tuple[Params, Array]:
        """Return the gradients of the last layer, and that of the loss for `y` [B, S, S, C]."""
        b, h, w, c = y.shape
        x = torch.from_numpy(y).permute(0, 3, 1, 2).flatten(1)  # [B, C*S*S]
        weight = params["output.weight"].detach()
        outputs = torch.addmm(params["output.bias"].detach(), x, weight.t())
        d = torch.softmax(outputs, 1)
        d -= F.one_hot(self.targets, d.shape[1])
        d /= b
        dx = (d @ weight).view(b, c, h, w).permute(0, 2, 3, 1)
        grads = {"output.weight": d.t() @ x, "output.bias": d.sum(0)}
        return grads, dx.contiguous().numpy()


class _Block:
    """A block after the first, run forwards; arrays are [B, H, W, C]."""

    def __init__(self, x: Array, name: str, params: Mapping[str, Tensor], eps: float) -> None:
        self.name = name
        self.kernel, self.weight, bias = _of_block(name, params)
        self.x = torch.from_numpy(x).permute(0, 3, 1, 2)
        z = F.conv2d(self.x, self.kernel, padding=1)
        z = z.contiguous(memory_format=torch.channels_last)  # as it is already, nearly always
        self.z = z.numpy().transpose(0, 2, 3, 1)
        b, h, w, c = self.z.shape
        self.mean, self.inv = np.empty(c, x.dtype), np.empty(c, x.dtype)
        batch_statistics(self.z, eps, self.mean, self.inv)
        self.y = np.empty((b, h // 2, w // 2, c), x.dtype)
        self.top, self.place = np.empty_like(self.y), np.empty(self.y.shape, np.uint8)
        numbers = self.weight, bias, self.mean, self.inv
        pool_forward(self.z, *numbers, 0.0, self.y, self.top, self.place)

    def backward(self, dy: Array, kernel_wanted: bool) -> tuple[Params, Array]:
        """Return the gradients of the parameters (of the kernel, if wanted) and of x."""
        dz, dweight, dbias = np.empty_like(self.z), *np.empty((2, len(self.weight)), dy.dtype)
        numbers = self.weight, self.mean, self.inv
        kept = self.y, self.z, self.top, self.place
        pool_backward(dy, *kept, *numbers, 0.0, dz, dweight, dbias)
        dx, dkernel, _ = torch.ops.aten.convolution_backward(
            torch.from_numpy(dz).permute(0, 3, 1, 2),
            self.x,
            self.kernel,
            None,
            *([1, 1], [1, 1], [1, 1]),  # stride, padding, dilation
            *(False, [0, 0], 1),  # not transposed; output padding, groups
            [True, kernel_wanted, False],
        )
        dx = dx.contiguous(memory_format=torch.channels_last)
        grads = {} if dkernel is None else {"conv.weight": dkernel}
        grads |= _others(dweight, dbias)
        return {f"{self.name}.{n}": g for n, g in grads.items()}, dx.numpy().transpose(0, 2, 3, 1)


class _FirstBlock:
    """The first block, run forwards, see :mod:`wheretolearn.fast.first_block`."""

    def __init__(self, known: Survey, name: str, params: Mapping[str, Tensor], eps: float) -> None:
        self.name, self.known = name, known
        self.kernel, self.weight, bias = _of_block(name, params)
        b, h, w = known.images.shape
        c = len(self.weight)
        self.y = np.empty((b, (h - 2) // 2, (w - 2) // 2, c), known.images.dtype)
        self.top, self.place = np.empty_like(self.y), np.empty_like(self.y)
        self.moments = np.empty((11, c))
        given = self.kernel.numpy().reshape(c, 9), self.weight, bias, eps
        first_forward(*known, *given, self.moments, self.y, self.top, self.place)

    def backward(self, dy: Array) -> Params:
        """Return the gradients of the parameters."""
        found = np.empty((11, len(self.weight)), dy.dtype)
        kept = self.y, self.known.images, self.top, self.place
        first_backward(dy, *kept, self.known.mean, self.weight, self.moments, found)
        dkernel = np.ascontiguousarray(found[:9].T).reshape(self.kernel.shape)
        grads = {"conv.weight": torch.from_numpy(dkernel)} | _others(found[9], found[10])
        return {f"{self.name}.{n}": g for n, g in grads.items()}


def _of_block(name: str, params: Mapping[str, Tensor]) -> tuple[Tensor, Array, Array]:
    """Return the kernel, and the weight and bias of the normalisation."""
    weight, bias = (params[f"{name}.norm.{n}"].detach().numpy() for n in ("weight", "bias"))
    return params[f"{name}.conv.weight"].detach(), weight, bias


def _others(dweight: Array, dbias: Array) -> Params:
    """Return the gradients of what is not a kernel; a convolution's bias has none."""
    return {
        "norm.weight": torch.from_numpy(dweight),
        "norm.bias": torch.from_numpy(dbias),
        "conv.bias": torch.from_numpy(np.zeros_like(dbias)),
    }
