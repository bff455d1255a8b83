"""Online gradient descent: one step of an optimizer on every batch.

From scratch this is the simplest learner; from pretrained weights it is fine-tuning.  What the
code released with OSAKA calls online SGD takes steps of Adam.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

from ..inner_loop import Batch
from ..meta import MetaLearner
from .osaka_learner import OnlineLearner


class Online(OnlineLearner):
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
        self.optimizer = known[optimizer](list(slow.params.values()), lr=rate)

    def observe(self, batch: Batch) -> None:
        """Step down the gradient of the batch."""
        leaves = {n: p.detach().requires_grad_() for n, p in self.slow.params.items()}
        loss = self.slow.criterion(self.slow.forward(leaves, batch.inputs), batch.targets)
        grads = torch.autograd.grad(loss, list(leaves.values()))
        for p, g in zip(self.slow.params.values(), grads, strict=True):
            p.grad = g
        self.optimizer.step()
        self.gradients += len(batch.targets)
