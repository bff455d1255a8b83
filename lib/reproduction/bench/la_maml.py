"""La-MAML's step, for the benchmark: who takes part, and numbers to work on."""

from __future__ import annotations

from collections.abc import Callable

import torch

from wheretolearn.networks import MLP
from wheretolearn.types import Batch, Params

from .cases import LaMaml
from .la_maml_forms import FORMS

TITLES = {"usual": "usual form", "two gradients": "two gradients a step", "library": "this library"}
"""What the tables call the forms."""


def make_glance(
    name: str, case: LaMaml, dtype: torch.dtype = torch.float32
) -> Callable[[], tuple[Params, Params]]:
    """Return a function that computes one meta-gradient, always the same one."""
    generator = torch.Generator().manual_seed(0)

    def batch(rows: int) -> Batch:
        inputs = torch.rand(rows, case.sizes[0], generator=generator)
        return Batch(inputs.to(dtype), torch.arange(rows) % case.sizes[-1])

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = {n: p.detach().to(dtype) for n, p in MLP(*case.sizes).named_parameters()}
    rates = {  # three quarters are positive
        n: (0.2 * torch.rand(w.shape, generator=generator) - 0.05).to(dtype)
        for n, w in weights.items()
    }
    current, replay = batch(case.current), batch(case.replay)
    return lambda: FORMS[name](weights, rates, current, replay)
