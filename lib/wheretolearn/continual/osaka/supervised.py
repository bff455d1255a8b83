"""Plain supervised pretraining: one class of the output for each class of the data set.

In an episode classes have arbitrary labels, so a classifier of episodes without an inner loop has
nothing to learn.  Here the network learns to tell all training classes apart, and leaves its
body to the stream, where it gets a new last layer.  (What the code released with OSAKA calls
fine-tuning is pretrained by MAML with one inner step.)
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...data import ImageSet
from ...meta import Score
from ...networks import Staged
from ...states import check_like, check_optimizer, kept_buffers, whole
from ...types import Batch, Params, Task


class LabelledImages:
    """Random images of a split with the numbers of their classes in it.

    Parameters
    ----------
    images : ImageSet
        Grey images, of mean 0 and standard deviation 1 by definition, so in [0, 1].
    split : str
        ``train``, ``val`` or ``test``.
    seed : int
        Seed of the draws; update number `u` is a pure function of it and `u`.
    """

    def __init__(self, images: ImageSet, split: str, seed: int) -> None:
        self.images, self.seed = images, seed
        self.classes = np.asarray(images.splits[split], dtype=np.int64)

    def batch(self, update: int, size: int) -> Batch:
        """Return `size` images float32 [size, 1, S, S] and their classes int64 [size]."""
        rng = np.random.default_rng([self.seed, 3, update])
        targets = rng.integers(len(self.classes), size=size)
        start = self.images.offsets[self.classes[targets]]
        stop = self.images.offsets[self.classes[targets] + 1]
        pixels = self.images.images[rng.integers(start, stop)].astype(np.float32) / 255
        return Batch(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(targets))


class Supervised:
    """A classifier that learns with Adam, and is judged by few-shot tasks on its features.

    Parameters
    ----------
    network : Staged
        Its last stage is the classifier, the others are the body; trained in place.
    rate : float
        Of Adam.

    Raises
    ------
    ValueError
        If the network is more than the chain of its stages, which has no body then.
    """

    def __init__(self, network: Staged, rate: float) -> None:
        if not network.is_chain():
            raise ValueError("a network with a forward or hooks of its own has no body")
        self.network = network
        self.optimizer = torch.optim.Adam(network.parameters(), lr=rate)
        self.device = next(network.parameters()).device
        self._stages = len(list(network.children()))

    @torch.enable_grad()
    def step(self, drawn: Batch) -> Score:
        """Take one step on labelled images, and return loss and accuracy before it."""
        inputs, targets = drawn.to(self.device)
        self.optimizer.zero_grad()
        outputs = self.network(inputs)
        loss = F.cross_entropy(outputs, targets)
        loss.backward()
        self.optimizer.step()
        accuracy = (outputs.detach().argmax(1) == targets).cpu().double().mean()
        return Score([float(loss.detach())], [float(accuracy)])

    @torch.no_grad()
    def evaluate(self, tasks: Iterable[Task]) -> Score:
        """Solve tasks of new classes by the nearest mean of the support's features."""
        losses, accuracies = [], []
        for given in tasks:
            task = given.to(self.device)
            features = (self.features(task.support.inputs), self.features(task.query.inputs))
            loss, accuracy = nearest_mean(features, task, int(task.support.targets.max()) + 1)
            losses.append(loss)
            accuracies.append(accuracy)
        return Score(losses, accuracies)

    def features(self, inputs: Tensor) -> Tensor:
        """Return what the classifier sees, [B, d]."""
        with kept_buffers(self.network):
            return self.network(inputs, 0, self._stages - 1).flatten(1)

    def body(self) -> Params:
        """Return the parameters before the classifier, detached."""
        head = list(self.network.named_children())[-1][0]
        return {
            n: p.detach() for n, p in self.network.named_parameters() if n.partition(".")[0] != head
        }

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of network and optimizer."""
        state = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        return copy.deepcopy(state)

    @whole
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned."""
        check_like(self.network.state_dict(), state["network"])
        check_optimizer(self.optimizer, state["optimizer"], dict(self.network.named_parameters()))
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))


def nearest_mean(features: tuple[Tensor, Tensor], task: Task, ways: int) -> tuple[float, float]:
    """Classify queries by the nearest mean of the support's features.

    Parameters
    ----------
    features : pair of Tensor
        Features of support and query images, [n, d] and [m, d].
    task : Task
        Their classes.
    ways : int
        Number of classes.

    Returns
    -------
    loss, accuracy : float
        Cross-entropy of minus the squared distances, and share of correct classes in [0, 1].
    """
    own = F.one_hot(task.support.targets, ways).to(features[0])  # [n, ways]
    means = (own.t() @ features[0]) / own.sum(0).unsqueeze(1)  # [ways, d]
    outputs = -torch.cdist(features[1], means).square()  # [m, ways]
    loss = F.cross_entropy(outputs, task.query.targets)
    return float(loss), float((outputs.argmax(1) == task.query.targets).cpu().double().mean())
