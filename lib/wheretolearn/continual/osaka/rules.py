r"""Rules with one number for each parameter tensor, as in sparse-C-MAML.

In the released runs of sparse-C-MAML a tensor `n` moves by :math:`r(m_n)`, with a single learned
:math:`m_n` for all its weights, so whole tensors freeze.  The gates are those of
:mod:`wheretolearn.rules`; the gradient for :math:`m_n` is the sum over the tensor,

.. math:: \frac{\partial L}{\partial m_n} =
          r'(m_n) \sum_i \frac{\partial L}{\partial r_i}, \qquad i \in n .
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...rules import Rule
from ...types import Params

_GATES = ("fixed", "linear", "relu", "true-relu", "mask")


@dataclass(frozen=True)
class TensorRule(Rule):
    """A rule whose learned numbers are one for each parameter tensor, of shape [].

    All start at `inner_rate`, also those of a ``mask`` gate, whose tensors so all move at first.
    """

    def __post_init__(self) -> None:
        """Refuse what makes sense for single weights only."""
        super().__post_init__()
        if self.gate not in _GATES:
            raise ValueError(f"one number for each tensor goes with gates {_GATES}, {self.gate=}")
        if self.init_sparsity or self.noise or self.masks_start:
            raise ValueError(
                "init_sparsity, noise and masks_start need one number for each weight, got "
                f"{self.init_sparsity=}, {self.noise=}, {self.masks_start=}"
            )

    def init(
        self, params: Mapping[str, Tensor], generator: torch.Generator | None = None
    ) -> Params:
        """Return the initial numbers: `inner_rate` for each moving tensor, of its type."""
        if not self.learned:
            return {}
        return {
            n: torch.full((), self.inner_rate, dtype=params[n].dtype, device=params[n].device)
            for n in self.moves(params)
        }

    def pull_back(
        self,
        rule_params: Params,
        rate_grads: Mapping[str, Tensor],
        noise: Tensor | None = None,
    ) -> Params:
        """Turn gradients for the rates of single weights into those of the numbers."""
        return super().pull_back(rule_params, {n: g.sum() for n, g in rate_grads.items()}, noise)
