"""What the processor could do: matrix products, and a network's convolutions alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .cases import FewShot
from .usual import usual_network

SIDE = 2048
"""Rows and columns of the matrices of the product."""

PRODUCT_FLOPS = 2 * SIDE**3
"""Floating-point operations of one product."""

PRODUCTS = {"product-float32": torch.float32, "product-bf16": torch.bfloat16}
"""The products by name."""


def make_product(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return two square matrices and room for their product."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, SIDE, SIDE, generator=generator).to(dtype)
    return a, b, torch.empty_like(a)


def forward_backward_flops(case: FewShot) -> int:
    """Return the operations of a forward and backward pass of one image."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = usual_network(case)
        images = torch.empty(2, case.channels, case.image_size, case.image_size)
        network(images).sum().backward()
    return counter.get_total_flops() // 2


def task_flops(case: FewShot) -> int:
    """Return the operations that one task of a meta-step needs, see above."""
    images = case.ways * (case.steps * case.shots + case.queries)
    return images * forward_backward_flops(case)


class Convolution(NamedTuple):
    """A convolution of a network: shapes of inputs and weights; and whether it is the first."""

    inputs: tuple[int, ...]
    weight: tuple[int, ...]
    first: bool

    @property
    def flops(self) -> int:
        """Operations forward and backward."""
        batch, _, height, width = self.inputs
        return (2 if self.first else 3) * 2 * math.prod(self.weight) * batch * height * width


def convolutions(case: FewShot) -> list[Convolution]:
    """Return the convolutions that one support batch goes through; none has a stride."""
    found: list[Convolution] = []

    def note(conv: nn.Module, inputs: tuple[Tensor], _: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        shapes = tuple(inputs[0].shape), tuple(conv.weight.shape)
        found.append(Convolution(*shapes, first=inputs[0] is images))

    with torch.device("meta"):
        network = usual_network(case)
        images = torch.empty(case.ways * case.shots, case.channels, *2 * [case.image_size])
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(note)
        network(images)
    return found


def make_convolutions(case: FewShot) -> Callable[[], None]:
    """Return a function that does the convolutions of a case, and their gradients, once."""

    def random(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape).contiguous(memory_format=torch.channels_last)

    made = []
    for inputs, weight, first in convolutions(case):
        x, w = random(inputs).requires_grad_(not first), random(weight).requires_grad_()
        z = F.conv2d(x, w, padding=weight[-1] // 2)
        made.append((x, w, torch.ones_like(z)))

    def run() -> None:
        for x, w, dz in made:
            z = F.conv2d(x, w, padding=w.shape[-1] // 2)
            torch.autograd.grad(z, [w, x] if x.requires_grad else [w], dz)

    return run
