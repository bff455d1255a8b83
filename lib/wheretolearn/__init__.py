"""Masked meta-learning: where to learn, and how far.

A small library behind the reproduction of "Learning where to learn: Gradient
sparsity in meta and continual learning" (von Oswald et al., NeurIPS 2021).

rules        where and how far each weight moves: the methods, as data
inner_loop   adaptation, and its meta-gradient in closed form
meta         a meta-learner around any ``torch.nn.Module``
networks     ConvNet-4, ResNet-12, MLP; kernels: what makes them fast on a CPU
data, tasks  labelled images, few-shot episodes
training     meta-training; experiments, study: what is run; runs, launch: how a run lives
continual    La-MAML, C-MAML and their relatives, on streams
records      one JSON file for each run; statistics, figures: what it shows
"""

from .inner_loop import adapt, first_order, second_order
from .meta import MetaLearner
from .rules import METHODS, Rule, make_rule
from .types import Batch, Task

__all__ = [
    "METHODS",
    "Batch",
    "MetaLearner",
    "Rule",
    "Task",
    "adapt",
    "first_order",
    "make_rule",
    "second_order",
]
