r"""Rules: where, and how far, the inner loop moves each weight.

Every method of the paper shares one inner loop,

.. math:: \phi_{k+1} = \phi_k - r(m) \circ \nabla L_{in}(\phi_k),

and differs only in the *rule*: the map from learned numbers :math:`m` (one for
each weight) to rates :math:`r(m)`, and the set of weights that has a rate at
all.  A rule is therefore data, a frozen :class:`Rule`, and the table below is
the whole list.

====================  ==========================================  ==================================
method                rate                                        derivative used for :math:`m`
====================  ==========================================  ==================================
``maml``              :math:`\alpha`                              none, the rate is fixed
``anil``              :math:`\alpha` on the last layer            none
``boil``              :math:`\alpha` on all other layers          none
``sparse-maml``       :math:`\alpha\,1[m \ge 0]`                  :math:`\alpha` (straight-through)
``sparse-relu-maml``  :math:`\max(m, 0)`                          1 (straight-through)
``relu-maml``         :math:`\max(m, 0)`                          :math:`1[m > 0]` (the true one)
``meta-sgd``          :math:`m`                                   1
``exp-maml``          :math:`e^m`                                 :math:`e^m`
``sparse-maml-plus``  :math:`\alpha\,1[m + W(s \circ z) \ge 0]`,  as ``sparse-maml``, for :math:`W`
                      with noise :math:`z` of the task            and :math:`s` too
``masked-weights``    :math:`\alpha\,1[m \ge 0]`; kernels start   as ``sparse-maml``, and through
                      at :math:`1[m \ge 0] \circ \theta`          the start
====================  ==========================================  ==================================

``sparse-maml`` and ``sparse-relu-maml`` are the two methods of von Oswald et
al. (2021); ``anil`` is Raghu et al. (2020), ``boil`` Oh et al. (2021),
``meta-sgd`` Li et al. (2017).  ``relu-maml``, ``exp-maml`` and ``masked-weights``
are variants of the authors' released code.

``sparse-maml-plus`` makes the masks of convolutions anew for every task, as a linear map
of Gaussian noise whose scale is learned; one draw serves all steps of a task.

It and ``masked-weights`` have a second form, ``as_released``, that of the authors' code; the
forms above are those of the study's runs.  As released,

- the map of ``sparse-maml-plus`` is a linear layer, bias and all, and the noise has a learned
  mean: :math:`\alpha\,1[W(\mu + s \circ z) + b \ge 0]`.  The bias takes the place of the plain
  mask, and with it its starting values: those of a linear layer of torch;
- ``masked-weights`` masks every tensor at the start and after every step,
  :math:`\phi \leftarrow 1[m \ge 0] \circ (\phi - \alpha g)`.  The weights so found are those of
  a loop that starts masked and masks its gradients.  The derivative for :math:`m` is another
  one, since it counts every step (:mod:`wheretolearn.masked_steps`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .suggestions import closest
from .types import ByStep, Params, Rates


def _straight_through(hard: Tensor, m: Tensor) -> Tensor:
    """Return the value of `hard` with the derivative of `m`."""
    return hard.detach() + (m - m.detach())  # m - m is exactly zero


class Gate(NamedTuple):
    """How learned numbers become rates, and where they start."""

    rate: Callable[[Tensor, float], Tensor]
    """``rate(m, inner_rate)``, whose derivative for m is the one that is used."""
    start: Callable[[float], float] | None
    """``start(inner_rate)``, the first m; None: they are drawn, see :meth:`Rule.init`."""
    can_freeze: bool
    """Whether a rate of exactly zero is among its values."""
    per_tensor: bool = False
    """Whether a tensor has one number, and not each weight its own."""


GATES: dict[str, Gate] = {
    "mask": Gate(lambda m, a: a * _straight_through((m >= 0).to(m.dtype), m), None, True),
    "relu": Gate(lambda m, a: _straight_through(m.clamp_min(0), m), lambda a: a, True),
    "true-relu": Gate(lambda m, a: torch.relu(m), lambda a: a, True),
    "linear": Gate(lambda m, a: m, lambda a: a, False),
    "exp": Gate(lambda m, a: m.exp(), math.log, False),
}
"""All gates by name; a gate of your own is one line more."""


@dataclass(frozen=True)
class Rule:
    r"""Where and how far each weight moves in the inner loop.

    Raises
    ------
    ValueError
        If `inner_rate` is not positive, `init_sparsity` lies outside [0, 1] or
        cannot be expressed by `gate`, or a name is unknown (the nearest known
        name is suggested).
    """

    gate: str = "fixed"
    """``fixed``, or a key of :data:`GATES`."""
    steps: int = 0
    """Numbers of its own for each of so many inner steps, as in MAML++; 0: the same at all."""
    noise: int = 0
    """Numbers of noise that the masks of convolutions are made from; 0: they are plain."""
    masks_start: bool = False
    """Whether the inner loop starts from weights that are masked like their gradients."""
    as_released: bool = False
    """For masks from noise and masked weights: the form of the authors' code, see above."""
    inner_rate: float = 0.1
    r"""The inner-loop learning rate :math:`\alpha` (for learned rates: where they start)."""
    init_sparsity: float = 0.0
    """Expected share of weights that are frozen before meta-training, in [0, 1]."""
    scope: str = "all"
    """Which weights may ever move: ``all``, ``head`` (the last layer) or ``body`` (the rest)."""
    adapt_norm: bool = True
    """Whether normalisation layers (modules whose name begins with ``norm``) may ever move."""
    mask_init: Literal["uniform", "kaiming"] = "uniform"
    r"""Spread of the initial mask values: :math:`U(-b, b)` shifted by :math:`b(1-2s)`, with
    b = 1/2 for every tensor (``uniform``), or :math:`b = \sqrt{6/\text{fan-in}}` for tensors of two
    and more dimensions and 1/2 for vectors (``kaiming``).  s is `init_sparsity`."""

    def __post_init__(self) -> None:
        """Refuse values that have no meaning."""
        if self.gate != "fixed" and self.gate not in GATES:
            raise ValueError(f"unknown gate {self.gate!r}{closest(self.gate, ['fixed', *GATES])}")
        if self.scope not in _SCOPES:
            raise ValueError(f"unknown scope {self.scope!r}{closest(self.scope, _SCOPES)}")
        if self.mask_init not in ("uniform", "kaiming"):
            raise ValueError(f"mask_init must be 'uniform' or 'kaiming', not {self.mask_init!r}")
        if not (self.inner_rate > 0 and math.isfinite(self.inner_rate)):
            raise ValueError(f"inner_rate must be positive and finite, got {self.inner_rate}")
        if self.noise < 0 or (self.gate != "mask" and (self.noise or self.masks_start)):
            raise ValueError(
                "noise must be 0 or more, and noise and masks_start need a 'mask' gate, got "
                f"{self.noise=}, {self.masks_start=}, {self.gate=}"
            )
        if self.steps < 0 or (self.steps and (self.noise or self.masks_start or not self.learned)):
            raise ValueError(f"numbers for each of {self.steps} steps need a learned, plain gate")
        if self.noise and self.masks_start:
            raise ValueError("masks from noise cannot be those of the start as well")
        if self.as_released and not (self.noise or self.masks_start):
            raise ValueError("as_released is for masks from noise and for masked weights")
        if not 0 <= self.init_sparsity <= 1:
            raise ValueError(f"init_sparsity must lie in [0, 1], got {self.init_sparsity}")
        if self.init_sparsity > 0 and not self.can_freeze:
            raise ValueError(
                f"a {self.gate!r} gate has no frozen weights, so init_sparsity must be 0, "
                f"got {self.init_sparsity}"
            )

    @property
    def learned(self) -> bool:
        """Whether the rule has numbers of its own to meta-learn."""
        return self.gate != "fixed"

    @property
    def can_freeze(self) -> bool:
        """Whether single weights can be frozen: a rate of exactly zero is among its values."""
        return self.learned and GATES[self.gate].can_freeze

    @property
    def masks_steps(self) -> bool:
        """Whether weights are masked again after every step."""
        return self.masks_start and self.as_released

    def check_alike(self) -> None:
        """Raise :class:`ValueError` if tasks differ in their rates, or do not start as stored."""
        if self.noise or self.masks_start or self.steps:
            raise ValueError(
                "in a stream a rule has neither noise nor a masked start nor rates by step"
            )

    def moves(self, names: Iterable[str]) -> list[str]:
        """Return those of the parameter `names` that may ever move, in order.

        Parameters
        ----------
        names : iterable of str
            Parameter names in registration order.  The *head* is the module that
            owns the last of them.

        Returns
        -------
        list of str
        """
        names = list(names)
        in_scope = [n for n in names if _SCOPES[self.scope](_owner(n) == _owner(names[-1]))]
        return [n for n in in_scope if self.adapt_norm or not _is_norm(n)]

    def init(
        self, params: Mapping[str, Tensor], generator: torch.Generator | None = None
    ) -> Params:
        r"""Draw the initial learned numbers :math:`m`.

        Parameters
        ----------
        params : mapping of str to Tensor
            Parameters that the rule is for.
        generator : torch.Generator, optional
            Source of randomness (CPU); the global one by default.

        Returns
        -------
        dict of str to Tensor
            One tensor for each moving parameter, of its shape, type and device;
            empty when nothing is learned.  With `noise`, also the scale ``@scale``
            [noise] and, for each kernel, the map ``<name>@map`` [size, noise]; as released,
            the mean ``@mean`` [noise], and a kernel's own numbers are the bias of its map.
        """
        if not self.learned:
            return {}
        numbers = {n: self._start(params[n], generator) for n in self.moves(params)}
        if self.noise:
            first = next(iter(params.values()))
            maps = {n: (params[n].numel(), self.noise) for n in numbers if params[n].ndim == 4}
            bound = self.noise**-0.5
            for n, shape in maps.items():
                w = bound * (2 * torch.rand(shape, generator=generator) - 1)
                numbers[f"{n}@map"] = w.to(first)
                if self.as_released:
                    bias = bound * (2 * torch.rand(params[n].shape, generator=generator) - 1)
                    numbers[n].copy_(bias)
            numbers["@scale"] = torch.ones(self.noise).to(first)
            if self.as_released:
                numbers["@mean"] = torch.zeros(self.noise).to(first)
        return numbers

    def draw(self, generator: torch.Generator | None = None) -> Tensor | None:
        """Draw the noise of a task, [noise], or None; from torch's global state by default."""
        return torch.randn(self.noise, generator=generator) if self.noise else None

    def _start(self, p: Tensor, generator: torch.Generator | None) -> Tensor:
        start, per_tensor = GATES[self.gate].start, GATES[self.gate].per_tensor
        shape = ((self.steps,) if self.steps else ()) + (() if per_tensor else tuple(p.shape))
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64)  # U(0, 1)
        if start is None:
            kaiming = self.mask_init == "kaiming" and p.ndim >= 2
            bound = math.sqrt(6 / p[0].numel()) if kaiming else 0.5
            m = 2 * bound * (uniform - self.init_sparsity)  # P(m < 0) = init_sparsity
        else:
            m = torch.full(shape, start(self.inner_rate), dtype=torch.float64)
            m = torch.where(uniform < self.init_sparsity, -m, m)
        # rounding to float32 must not carry a value across the threshold
        frozen = m < 0
        m = m.to(p.dtype)
        m = torch.where(frozen & (m >= 0), -torch.finfo(p.dtype).tiny, m)
        m = m.to(p.device)
        return m.contiguous(memory_format=_layout(p)) if m.shape == p.shape else m

    def rates(
        self, rule_params: Params, names: Iterable[str], noise: Tensor | None = None
    ) -> Rates:
        r"""Return the rates :math:`r(m)` of the moving parameters.

        Parameters
        ----------
        rule_params : dict of str to Tensor
            The learned numbers, as from :meth:`init`.
        names : iterable of str
            Names of all parameters of the network, in registration order.
        noise : Tensor, optional
            From :meth:`draw`; without, the masks are those of the noise's mean.

        Returns
        -------
        dict of str to Tensor or float
            Differentiable in `rule_params`, with the derivative of the table above.
        """
        if not self.learned:
            return dict.fromkeys(self.moves(names), self.inner_rate)
        rate = GATES[self.gate].rate
        numbers = {n: m for n, m in rule_params.items() if "@" not in n}
        z = rule_params.get("@mean")
        if noise is not None:
            scaled = rule_params["@scale"] * noise.to(rule_params["@scale"])
            z = scaled if z is None else z + scaled
        if z is not None:
            for n, m in numbers.items():
                if f"{n}@map" in rule_params:
                    numbers[n] = m + (rule_params[f"{n}@map"] @ z).view(m.shape)
        rates: Rates = {n: rate(m, self.inner_rate) for n, m in numbers.items()}
        return ByStep(rates) if self.steps else rates

    def start(self, rule_params: Params, params: Params) -> Params:
        """Return where the inner loop starts, differentiable: `params`, masked or not.

        Only tensors of two and more dimensions are masked: a normalisation whose scale
        and shift were both zero would pass no gradient on, and never come back.  As released,
        all are.
        """
        if not self.masks_start:
            return params
        masks = {
            n: torch.as_tensor(r) / self.inner_rate
            for n, r in self.rates(rule_params, params).items()
            if params[n].ndim > 1 or self.as_released
        }
        return {n: masks[n] * p if n in masks else p for n, p in params.items()}

    def pull_back(
        self,
        rule_params: Params,
        rate_grads: Mapping[str, Tensor],
        noise: Tensor | None = None,
    ) -> Params:
        r"""Turn gradients for the rates into gradients for :math:`m` (chain rule).

        Parameters
        ----------
        rule_params : dict of str to Tensor
            The learned numbers.
        rate_grads : mapping of str to Tensor
            :math:`\partial L/\partial r`, of the shapes of the parameters.
        noise : Tensor, optional
            What the rates were made with.

        Returns
        -------
        dict of str to Tensor
            :math:`\partial L/\partial m`, straight-through where the rule says so.
        """
        if not self.learned:
            return {}
        leaves = {n: m.detach().requires_grad_() for n, m in rule_params.items()}
        rates = self.rates(leaves, leaves, noise)
        grads = torch.autograd.grad(
            [self._spread(torch.as_tensor(r), rate_grads[n]) for n, r in rates.items()],
            list(leaves.values()),
            [rate_grads[n] for n in rates],
            materialize_grads=True,
        )
        return dict(zip(leaves, grads, strict=True))

    def _spread(self, rate: Tensor, grads: Tensor) -> Tensor:
        """Return rates in the shape of their gradients: of every weight, [K, ...] by step."""
        if rate.shape == grads.shape:
            return rate
        return rate.reshape((*rate.shape, *[1] * (grads.ndim - rate.ndim))).expand_as(grads)

    def pull_back_start(
        self, rule_params: Params, params: Params, start_grads: Mapping[str, Tensor]
    ) -> tuple[Params, Params]:
        r"""Turn gradients for the start into gradients for :math:`\theta` and :math:`m`.

        Parameters
        ----------
        rule_params, params : dict of str to Tensor
            As in :meth:`start`.
        start_grads : mapping of str to Tensor
            Gradient of the loss for what :meth:`start` returned.

        Returns
        -------
        params, rule_params : dict of str to Tensor
            Gradients; those of `rule_params` are to be added to :meth:`pull_back`'s.
        """
        theta = {n: p.detach().requires_grad_() for n, p in params.items()}
        m = {n: p.detach().requires_grad_() for n, p in rule_params.items()}
        start = self.start(m, theta)
        grads = torch.autograd.grad(
            list(start.values()),
            [*theta.values(), *m.values()],
            [start_grads[n] for n in start],
            materialize_grads=True,
        )
        return (
            dict(zip(theta, grads[: len(theta)], strict=True)),
            dict(zip(m, grads[len(theta) :], strict=True)),
        )


def _layout(p: Tensor) -> torch.memory_format:
    """Return the memory format of a parameter, so that its companions share it."""
    if p.ndim == 4 and p.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def _owner(name: str) -> str:
    """Return the module that owns a parameter: ``layer1.conv`` of ``layer1.conv.weight``."""
    return name.rpartition(".")[0]


def _is_norm(name: str) -> bool:
    return _owner(name).rpartition(".")[2].startswith("norm")


_SCOPES: dict[str, Callable[[bool], bool]] = {
    "all": lambda in_head: True,
    "head": lambda in_head: in_head,
    "body": lambda in_head: not in_head,
}


class Method(NamedTuple):
    """A method: its rule, how it is shown, and how its runs start."""

    rule: Rule
    title: str
    """What to call it."""
    colour: int = 0
    """Its place in the palette of the figures."""
    marker: str = "o"
    """Its sign in the figures, as Matplotlib names it."""
    start: float = 0.0
    """Initial sparsity of its runs, unless they say otherwise."""
    searched: str = ""
    """The method whose searched inner rate it takes; empty: it is searched itself."""


_MASK = Rule(gate="mask", init_sparsity=0.5)

METHODS: dict[str, Method] = {
    "maml": Method(Rule(), "MAML", 2, "^"),
    "anil": Method(Rule(scope="head"), "ANIL", 4, "v"),
    "boil": Method(Rule(scope="body"), "BOIL", 5, "D"),
    "meta-sgd": Method(Rule(gate="linear"), "Meta-SGD", 6),
    "sparse-maml": Method(_MASK, "sparse-MAML", 0, start=0.5),
    "sparse-relu-maml": Method(Rule(gate="relu"), "sparse-ReLU-MAML", 3, "s"),
    "sparse-maml-plus": Method(replace(_MASK, noise=1600), "sparse-MAML+", 9, start=0.5),
    "relu-maml": Method(
        Rule(gate="true-relu"), "true-ReLU variant", 7, searched="sparse-relu-maml"
    ),
    "exp-maml": Method(Rule(gate="exp"), "exponential variant", 8, searched="sparse-relu-maml"),
    "masked-weights": Method(
        replace(_MASK, masks_start=True), "masked weights", 1, start=0.5, searched="sparse-maml"
    ),
}
"""All methods by name, in the order of the tables; a method of your own is one line more."""


def make_rule(method: str, **changes: object) -> Rule:
    """Return the rule of a method, with some of its fields changed.

    Parameters
    ----------
    method : str
        A key of :data:`METHODS`.
    **changes
        Fields of :class:`Rule`.

    Returns
    -------
    Rule

    Raises
    ------
    ValueError
        For an unknown method or field; the nearest known name is suggested.

    Examples
    --------
    >>> make_rule("sparse-maml", inner_rate=0.25).gate
    'mask'
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}{closest(method, METHODS)}")
    known = [f.name for f in fields(Rule)]
    for name in changes:
        if name not in known:
            raise ValueError(f"a rule has no parameter {name!r}{closest(name, known)}")
    return replace(METHODS[method].rule, **changes)  # type: ignore[arg-type]


class Count(NamedTuple):
    """How many of a tensor's weights are frozen."""

    frozen: int
    size: int


def count_frozen(rates: Rates, params: Mapping[str, Tensor]) -> dict[str, Count]:
    """Count, for each parameter tensor, the weights whose rate is exactly zero.

    A parameter without a rate counts as frozen altogether.

    Parameters
    ----------
    rates : dict of str to Tensor or float
        As from :meth:`Rule.rates`.
    params : mapping of str to Tensor
        All parameters of the network.

    Returns
    -------
    dict of str to Count
    """
    return {
        n: Count(p.numel() - int(moved(rates, n, p).sum()), p.numel()) for n, p in params.items()
    }


def moved(rates: Rates, name: str, p: Tensor) -> Tensor:
    """Return which weights of the parameter `name` have a rate other than zero, at any step."""
    moves = torch.as_tensor(rates.get(name, 0.0)).detach() != 0
    if isinstance(rates, ByStep) and name in rates:
        moves = moves.any(0)
    return moves.expand(p.shape)
