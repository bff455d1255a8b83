"""An experiment: every parameter of a meta-training run, and what the run costs."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, Self, Union, get_args, get_origin, get_type_hints

import torch

from wheretolearn.data.catalogue import row_of
from wheretolearn.networks import NETWORKS, make_network
from wheretolearn.precision import Precision, check_precision
from wheretolearn.rules import Rule, make_rule
from wheretolearn.seam import reference_only
from wheretolearn.suggestions import closest

from .mask_codec import check_arrangement
from .probes import EPISODES, STEPS, adaptations, check_probe
from .protocol import Run

CPU_FLOPS = 30e9
"""Floating-point operations per second that one CPU core is assumed to sustain in a run;
measured on the study's machine, see the wall times in its records."""

_RESULTS = Path("results")

LARGEST = 10**9
"""The largest whole number that a parameter may be: counts beyond it overflow somewhere."""

SECOND_ORDER = 8
"""How many times as long an exact meta-update takes as one to first order (measured on the
study's machine, 8.4 times for ConvNet-4 at 32 pixels): most of its second derivatives run through
torch's own operations."""


@functools.cache
def _fields(experiment: type) -> dict[str, tuple[type, ...]]:
    """Return the fields of a dataclass and the classes of the values that they take."""
    return {name: _kinds(hint) for name, hint in get_type_hints(experiment).items()}


def _kinds(hint: Any) -> tuple[type, ...]:
    origin = get_origin(hint)
    if origin is Literal:
        return tuple({type(choice): None for choice in get_args(hint)})
    if origin in (Union, UnionType):
        return tuple(kind for one in get_args(hint) for kind in _kinds(one))
    return (origin or hint,)


def check_value(name: str, value: Any, *kinds: type) -> None:
    """Refuse what is of another kind, and numbers that nothing can be made of."""
    truth = isinstance(value, bool)
    accepted = (*kinds, int) if float in kinds else kinds
    if not isinstance(value, accepted) or (truth and bool not in kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"{name} must be of type {names}, got {value!r:.100}")
    if isinstance(value, tuple) and not all(isinstance(v, str) for v in value):
        raise ValueError(f"{name} must hold texts, got {value!r:.100}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    if isinstance(value, int) and not truth and abs(value) > LARGEST:
        raise ValueError(f"{name} must be at most {LARGEST:,}, got {value:,}")


class Planned:
    """What experiments of every kind have and do; they are dataclasses."""

    name: str  #: File-name-safe name, unique within its profile
    figure: str  #: Notebook that shows it
    profile: str  #: ``quick``, ``study``, ``search``, ``paper`` or ``smoke``
    masks_from: str = ""
    """Experiment of the same profile that must have been run before; mostly none."""

    def __post_init__(self) -> None:
        """Refuse values that do not fit their field, see :func:`check_value`; a list is a tuple."""
        for name, kinds in _fields(type(self)).items():  # type: ignore[arg-type]
            value = getattr(self, name)
            if isinstance(value, list) and tuple in kinds:
                value = tuple(value)
                object.__setattr__(self, name, value)
            check_value(name, value, *kinds)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters as plain data, as they stand in a record."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some parameters changed."""
        known = [f.name for f in dataclasses.fields(self)]  # type: ignore[arg-type]
        for name in changes:
            if name not in known:
                raise ValueError(f"an experiment has no parameter {name!r}{closest(name, known)}")
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def flops(self) -> float:
        """Return the floating-point operations of one run, convolutions and products only."""
        raise NotImplementedError

    def seconds(self) -> float:
        """Return the estimated time of one run on one CPU core, in seconds."""
        return self.flops() / CPU_FLOPS

    def start(
        self, seed: int, data: Path | None = None, device: str = "auto", *, results: Path = _RESULTS
    ) -> Run:
        """Return a run that is at its beginning; `results` has the masks that it may need."""
        raise NotImplementedError


class Episodes(NamedTuple):
    """Numbers of episodes."""

    training: int
    evaluation: int
    """In validations, the one before training included, in the final test, and in probes."""


@dataclass(frozen=True)
class Experiment(Planned):
    """Parameters of one meta-training run; only the seed is missing."""

    name: str  #: File-name-safe name, unique within its profile
    figure: str  #: Notebook that shows it
    profile: str = "paper"  #: ``quick``, ``study``, ``search``, ``paper`` or ``smoke``
    data: str = "miniimagenet"  #: Image set, a key of ``wheretolearn.data.DATASETS``
    image_size: int = 84  #: Height and width of the images, pixels
    ways: int = 5  #: Classes of an episode
    shots: int = 5  #: Support images of each class
    queries: int = 15  #: Query images of each class, in training and in testing
    network: str = "convnet4"  #: ``convnet4``, ``resnet12`` or ``mlp``
    width: int = 64
    """Channels of each convolution block (ResNet-12: of the first one; MLP: hidden units)."""
    method: str = "sparse-maml"  #: A key of ``wheretolearn.rules.METHODS``
    inner_rate: float = 0.1  #: Inner-loop learning rate
    inner_steps: int = 25  #: Inner-loop steps K, in training and in testing
    init_sparsity: float = 0.0  #: Expected share of frozen weights before meta-training, in [0, 1]
    mask_init: Literal["uniform", "kaiming"] = "uniform"
    """Spread of the initial mask, see ``Rule.mask_init``."""
    noise: int = 0
    """For ``sparse-maml-plus``: numbers of noise behind the masks; 0 is the paper's 1600."""
    as_released: bool = False
    """For ``sparse-maml-plus`` and ``masked-weights``: the form of the authors' code, see
    ``wheretolearn.rules``."""
    adapt_norm: bool = True
    """Whether the inner loop may move the scales and shifts of normalisation layers."""
    order: Literal[1, 2] = 1  #: Order of the meta-gradient
    meta_batch: int = 2  #: Tasks of one meta-update
    outer: Literal["adam", "nesterov"] = "adam"
    """Optimizer of both: Adam, or gradient descent with Nesterov's momentum of 0.9."""
    meta_rate: float = 1e-3  #: Its rate for the initialisation
    rule_rate: float = 7.5e-3  #: Its rate for the numbers of the rule
    outer_clamp: float = 0.0
    """Bound on every number of the meta-gradient of the initialisation; 0 is none."""
    precision: Precision = "float32"
    """``float32``, ``tf32`` or ``bf16``, see ``wheretolearn.precision``."""
    updates: int = 40_000  #: Meta-updates
    eval_every: int = 500  #: Meta-updates between validations
    val_tasks: int = 500  #: Episodes of each validation
    test_tasks: int = 500
    """Episodes of the final test, at the best validation; with 0 the test classes are never
    looked at, nor is anything else asked."""
    probes: tuple[str, ...] = ()
    """What else is asked at the best validation, on up to 100 of the test episodes, see
    ``reproduction.runs.probes``."""
    away_tasks: int = 100  #: Episodes of each probe ``on:<data>``, ``test_tasks`` at most
    masks_from: str = ""
    """Experiment of the same profile whose learned masks are used, and kept as they are."""
    masks_as: str = "own"
    """How: ``own``, ``shuffled`` or ``random``, see ``reproduction.runs.mask_codec``."""

    def __post_init__(self) -> None:
        """Refuse numbers that have no meaning, and rules that do not exist."""
        super().__post_init__()
        for field in ("updates", "eval_every", "val_tasks", "meta_batch", "width", "away_tasks"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be positive, got {getattr(self, field)}")
        for field in ("test_tasks", "outer_clamp"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field} must be 0 or more, got {getattr(self, field)}")
        if self.network not in NETWORKS:
            raise ValueError(f"unknown network {self.network!r}{closest(self.network, NETWORKS)}")
        check_precision(self.precision)
        for probe in self.probes:
            check_probe(probe)
        check_arrangement(self.masks_as)
        rule = self.rule
        plain = rule.gate == "mask" and not rule.noise and self.adapt_norm
        if (self.masks_from or "masks" in self.probes) and not plain:
            raise ValueError(
                "masks_from and the probe 'masks' need a rule with a plain mask on every weight, "
                f"such as that of sparse-maml; the method is {self.method!r}"
            )
        if rule.steps and "steps" in self.probes:
            raise ValueError(
                f"the probe 'steps' takes up to {STEPS[-1]} times {self.inner_steps} inner steps, "
                f"and the rule of {self.method!r} has rates for {rule.steps} only"
            )
        if self.noise and self.method != "sparse-maml-plus":
            raise ValueError(f"noise is for sparse-maml-plus; the method is {self.method!r}")

    @property
    def rule(self) -> Rule:
        """The rule that the parameters describe."""
        return make_rule(
            self.method,
            inner_rate=self.inner_rate,
            init_sparsity=self.init_sparsity,
            mask_init=self.mask_init,
            adapt_norm=self.adapt_norm,
            as_released=self.as_released,
            **({"noise": self.noise} if self.noise else {}),
        )

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return len(row_of(self.data).meta.mean)

    def build_network(self) -> torch.nn.Module:
        """Build the network, initialised from torch's global random state."""
        return make_network(
            self.network,
            ways=self.ways,
            channels=self.channels,
            image_size=self.image_size,
            width=self.width,
        )

    def episodes(self) -> Episodes:
        """Return how many episodes one run sees."""
        validations = 1 + math.ceil(self.updates / self.eval_every)  # the first is at update 0
        evaluation = validations * self.val_tasks + self.test_tasks
        evaluation += sum(adaptations(probe, self.asked(probe)) for probe in self.probes)
        return Episodes(self.updates * self.meta_batch, evaluation)

    def asked(self, probe: str) -> int:
        """Return on how many episodes a probe is asked."""
        return min(self.away_tasks if probe.startswith("on:") else EPISODES, self.test_tasks)

    def flops(self) -> float:
        """Return the floating-point operations of one run, convolutions and products only."""
        image = image_flops(self.network, self.ways, self.channels, self.image_size, self.width)
        support, query = self.ways * self.shots, self.ways * self.queries
        adaptation = 3 * self.inner_steps * support
        episodes = self.episodes()
        order = SECOND_ORDER if self.order == 2 else 1
        training = episodes.training * (adaptation + 3 * query) * order
        return image * (training + episodes.evaluation * (adaptation + query))

    def start(
        self, seed: int, data: Path | None = None, device: str = "auto", *, results: Path = _RESULTS
    ) -> Run:
        """Return a run that is at its beginning; `results` has the masks that it may need."""
        from .few_shot import start  # noqa: PLC0415 - which needs this module

        return start(self, seed, data, device, results)


@functools.cache
def image_flops(network: str, ways: int, channels: int, image_size: int, width: int) -> float:
    """Return the operations of a forward pass of one image."""
    total = 0

    def count(layer: torch.nn.Module, _: Any, output: torch.Tensor) -> None:
        nonlocal total  # a product of each weight for each place or unit that it helps to compute
        total += 2 * output[0].numel() * layer.get_parameter("weight")[0].numel()

    with torch.random.fork_rng(devices=[]):
        module = make_network(
            network, ways=ways, channels=channels, image_size=image_size, width=width
        )
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad(), reference_only():
        module(torch.zeros(2, channels, image_size, image_size))
    return total
