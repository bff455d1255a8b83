"""Sparse-MAML as it is usually written: the reference that the others must equal.

Tensors are contiguous [B, C, H, W]; convolution, batch normalisation, activation and
pooling follow one another; the masks and all inner steps stand in one autograd graph,
from which ``backward`` takes the gradient for the initialisation and the masks; tasks
come one by one.  The inner gradients themselves are constants of that graph (first
order).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from wheretolearn.types import Params, Task

from .cases import FewShot, Problem


class Block(nn.Module):
    """Layers of a block, by name."""


class UsualConvNet4(nn.Module):
    """ConvNet-4; parameters are named as the library's."""

    def __init__(self, case: FewShot) -> None:
        super().__init__()
        channels = [case.channels, *4 * [case.width]]
        for i, (a, b) in enumerate(pairwise(channels), start=1):
            block: Any = Block()
            block.conv = nn.Conv2d(a, b, 3, padding=1)
            block.norm = nn.BatchNorm2d(b, track_running_stats=False)
            self.add_module(f"layer{i}", block)
        self.output = nn.Linear(case.width * (case.image_size // 16) ** 2, case.ways)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, C, S, S] to logits [B, ways]."""
        layers: tuple[Any, ...] = (self.layer1, self.layer2, self.layer3, self.layer4)
        for layer in layers:
            x = F.max_pool2d(F.relu(layer.norm(layer.conv(x))), 2)  # [B, width, S/2, S/2]
        return self.output(x.flatten(1))


class UsualResNet12(nn.Module):
    """ResNet-12; parameters are named as the library's."""

    def __init__(self, case: FewShot) -> None:
        super().__init__()
        channels = [case.channels, *(case.width * 2**i for i in range(4))]
        for i, (a, b) in enumerate(pairwise(channels), start=1):
            block: Any = Block()
            for j in (1, 2, 3):
                conv = nn.Conv2d(a if j == 1 else b, b, 3, padding=1, bias=False)
                block.add_module(f"conv{j}", conv)
                block.add_module(f"norm{j}", nn.BatchNorm2d(b, track_running_stats=False))
            block.shortcut = nn.Conv2d(a, b, 1, bias=False)
            block.norm_shortcut = nn.BatchNorm2d(b, track_running_stats=False)
            self.add_module(f"layer{i}", block)
        self.output = nn.Linear(channels[-1], case.ways)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, C, S, S] to logits [B, ways]."""
        layers: tuple[Any, ...] = (self.layer1, self.layer2, self.layer3, self.layer4)
        for layer in layers:
            y = F.leaky_relu(layer.norm1(layer.conv1(x)), 0.01)  # [B, C', S, S]
            y = F.leaky_relu(layer.norm2(layer.conv2(y)), 0.01)
            y = layer.norm3(layer.conv3(y)) + layer.norm_shortcut(layer.shortcut(x))
            x = F.max_pool2d(F.leaky_relu(y, 0.01), 2)  # [B, C', S/2, S/2]
        return self.output(x.mean((2, 3)))


def usual_network(case: FewShot) -> nn.Module:
    """Return the network of a case in its usual form."""
    return {"convnet4": UsualConvNet4, "resnet12": UsualResNet12}[case.network](case)


class Form(ABC):
    """One way to compute the meta-gradient, and the Adam that uses it."""

    def __init__(self, case: FewShot, problem: Problem) -> None:
        self.steps, self.rule = case.steps, problem.rule
        self.module = usual_network(case).to(problem.tasks[0].support.inputs.dtype)
        self.module.load_state_dict(problem.params)
        self.params: Params = dict(self.module.named_parameters())
        self.rule_params = {
            n: m.clone(memory_format=torch.contiguous_format).requires_grad_()
            for n, m in problem.rule_params.items()
        }
        self.optimizer = torch.optim.Adam([*self.params.values(), *self.rule_params.values()])

    def step(self, tasks: Sequence[Task]) -> None:
        """Make one meta-update on the mean meta-gradient of the tasks."""
        self.optimizer.zero_grad()
        self.backward(tasks)
        self.optimizer.step()

    @abstractmethod
    def backward(self, tasks: Sequence[Task]) -> None:
        """Set the ``grad`` of initialisation and mask."""

    def loss(self, params: Mapping[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the network's loss at `params`."""
        return F.cross_entropy(functional_call(self.module, dict(params), (inputs,)), targets)


class Usual(Form):
    """All inner steps in one graph."""

    def backward(self, tasks: Sequence[Task]) -> None:
        """Go backward through the graph of each task."""
        for support, query in tasks:
            rates = self.rule.rates(self.rule_params, self.params)
            fast: Params = dict(self.params)
            for _ in range(self.steps):
                moving = [fast[n] for n in rates]
                grads = torch.autograd.grad(self.loss(fast, *support), moving)
                fast |= {n: fast[n] - r * g for (n, r), g in zip(rates.items(), grads, strict=True)}
            (self.loss(fast, *query) / len(tasks)).backward()
