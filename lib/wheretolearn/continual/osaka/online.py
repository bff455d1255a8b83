"""Online gradient descent: one step of an optimizer on every batch.

From scratch this is the simplest learner; from pretrained weights it is fine-tuning.  What the
code released with OSAKA calls online SGD takes steps of Adam.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

from ...inner_loop import gradients
from ...meta import MetaLearner
from ...types import Batch
from .fast_slow import FastSlowLearner


class Online(FastSlowLearner):
    """Take one step on every batch; there are no fast weights.

    Parameters
    ----------
    slow : MetaLearner
        Where to start; of it only network, weights and loss are used.
    rate : float
        Learning rate.
    optimizer : {"adam", "sgd"}, default "adam"
        What makes the step.

    Raises
    ------
    ValueError
        If `optimizer` is neither of the two, or `rate` is negative.
    """

    saved = ("optimizer",)

    def __init__(
        self, slow: MetaLearner, *, rate: float, optimizer: Literal["adam", "sgd"] = "adam"
    ) -> None:
        super().__init__(slow)
        known: dict[str, Any] = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
        if optimizer not in known:
            raise ValueError(f"optimizer must be 'adam' or 'sgd', got {optimizer!r}")
        self.optimizer = known[optimizer]([slow.params[n] for n in self.moving], lr=rate)

    @torch.enable_grad()
    def observe(self, batch: Batch) -> None:
        """Step down the gradient of the batch."""
        loss, leaves = self.loss_of_leaves(batch)
        for n, g in zip(leaves, gradients(loss, leaves.values()), strict=True):
            self.slow.params[n].grad = g
        self.optimizer.step()
        self.gradients += len(batch.targets)
