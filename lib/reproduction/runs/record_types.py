"""What stands in a record, field by field; ``msgspec.json.schema`` makes a JSON schema of it.

Shares are in [0, 1].  On a CPU all fields but ``provenance`` and ``content_sha256`` follow from
parameters, seed and data, for one version of the library on one kind of processor.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Amount = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Change = Annotated[float, Meta(ge=-1, le=1)]
Cosine = Annotated[float, Meta(ge=-1.0001, le=1.0001)]  # rounding included

Shares = list[Share | None]
Losses = list[Amount | None]
Counts = dict[str, list[Count]]
Means = dict[str, list[float | None]]
Quantiles = Annotated[list[float], Meta(min_length=21, max_length=21)]
Around = Annotated[Shares, Meta(min_length=26, max_length=26)]
TaskAndSamples = Annotated[dict[Literal["task", "samples"], Count], Meta(min_length=2)]
UpdateOrStep = Annotated[dict[Literal["update", "step"], Count], Meta(min_length=1, max_length=1)]


class Strict(Struct, forbid_unknown_fields=True, kw_only=True):
    """Fields that are all there, or have a default, and no others."""


class Parameters(Struct, kw_only=True):
    """All fields of the experiment, with all settings of the learner; here those that count."""

    name: str
    profile: str
    figure: str
    data: str = ""  #: of few-shot runs
    stream: str = ""  #: of the others
    steps: Count = 0  #: of OSAKA's stream, as are the next two
    ways: Positive = 1
    shots: Positive = 1


class Provenance(Struct, kw_only=True):
    """Where and when; the only part that differs between two runs of the same thing."""

    library_version: str
    commit: str | None  #: of the library; ends in -dirty if files were changed
    torch: str
    python: str
    device: str
    processor: str
    threads: Positive
    environment: dict[str, str] = {}  #: variables that change the last bits; not in old records
    finished: str  #: UTC, ISO 8601
    wall_seconds: Amount  #: at work, interruptions excluded
    input_seconds: Amount = 0.0  #: of these, waiting for episodes
    interruptions: Count  #: how often the run was resumed from a checkpoint


class Data(Strict):
    """What a run learned from and was tested on."""

    name: str
    fingerprint: str  #: SHA-256 of decoded images, classes and splits, or what a stream depends on


class Images(Data):
    """Of a few-shot run."""

    classes: dict[str, Count]  #: of each split, without rotations


class Record(Strict):
    """What records of all kinds have."""

    schema_version: Literal[1]
    experiment: str
    profile: str  #: quick, study, search, paper or smoke
    figure: str  #: notebook that shows the experiment
    seed: Count
    parameters: Parameters
    data: Data
    tensors: dict[str, Positive]  #: weights of each parameter tensor, in network order
    status: Literal["finished", "diverged"]
    provenance: Provenance
    content_sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]  #: of the rest, canonical JSON


class FewShotCurves(Strict):
    """One number for each evaluation on the validation episodes; the first is untrained."""

    update: list[Count]  #: meta-updates made before
    train_loss: Losses  #: mean query loss since the evaluation before
    train_accuracy: Shares  #: mean query accuracy since the evaluation before
    val_loss: Losses
    val_accuracy: Shares
    sparsity: Shares  #: share of all weights that the inner loop cannot move
    frozen: Counts  #: weights of each tensor that the inner loop cannot move


class Interval(Strict):
    """A mean with its 95 % interval over episodes."""

    mean: float | None
    low: float | None
    high: float | None
    n: Positive


class FewShotFinal(Strict):
    """The end; what is tested is the best validation, the first if several are as good."""

    update: Count  #: meta-updates made
    best_update: Count | None
    val_accuracy: Share | None  #: the best
    test_accuracy: Interval | None  #: null if the run diverged or no test was asked for
    test_loss: Amount | None
    sparsity: Share  #: at the end of meta-training
    best_sparsity: Share | None  #: at the best validation
    probes: dict[str, Interval] = {}  #: see :mod:`reproduction.runs.probes`
    others: dict[str, str] = {}  #: fingerprints of the other data sets that were tested on
    masks: dict[str, str] = {}  #: see :mod:`reproduction.runs.mask_codec`
    rate_quantiles: dict[str, Quantiles] = {}  #: of each tensor's learned rates: 0, 5, ..., 100 %


class FewShotRecord(Record):
    """One meta-training run."""

    data: Images
    diverged_at: Positive | None  #: update at which the loss was not finite, or beyond 1e6
    curves: FewShotCurves
    final: FewShotFinal


class ContinualCurves(Strict):
    """What was measured after each task; rates and frozen weights only where there are rates."""

    before: Shares  #: accuracy on every task before any was learned
    train_loss: Losses
    accuracy: list[Shares]  #: row t, column i: on task i after learning task t
    frozen: Counts  #: weights of each tensor that cannot move
    thawed: Counts  #: those that could not move after the task before, and can now
    rates: Means  #: of each tensor
    interference: dict[str, list[Cosine | None]]  #: see :mod:`wheretolearn.continual.interference`


class ContinualFinal(Strict):
    """The end; all null if the run diverged."""

    ra: Share | None  #: retained accuracy
    bti: Change | None  #: backward transfer and interference
    la: Share | None  #: learning accuracy
    sparsity: Share | None  #: share of all weights that cannot move
    gradient: Cosine | None  #: mean cosine between whole gradients
    step: Cosine | None  #: the same as the rates let them act
    effect: Cosine | None  #: of what arrives as the rates let it act, and what came before, whole
    switch: Cosine | None  #: between whole gradients, at the first comparison of each task


class ContinualRecord(Record):
    """One run through a stream of tasks."""

    kind: Literal["continual"]
    diverged_at: TaskAndSamples | None  #: samples of the task that were seen
    curves: ContinualCurves
    final: ContinualFinal


class OsakaCurves(Strict):
    """Points along the stream."""

    step: list[Count]  #: steps before
    loss: Losses  #: mean before the labels, since the last point
    frozen: Counts  #: weights of each tensor whose learned rate is zero
    rates: Means  #: mean learned rate of each tensor
    numbers: Means  #: learned number of each tensor, where the rule has one for each


class OsakaFinal(Strict):
    """The end; all null if the run diverged."""

    accuracy: Share | None  #: mean over all steps, before the labels were known
    by_source: dict[str, Share | None] | None  #: the same by data set
    around: Around | None  #: accuracy from 5 steps before to 20 after a switch of contexts
    precision: Share | None  #: share of detections that are switches
    recall: Share | None  #: share of switches that were detected
    f1: Share | None
    sparsity: Share | None  #: share of the weights that may move whose rate is zero
    gradients: Count | None  #: images that gradients were taken of in the stream
    outer_steps: Count | None  #: of the slow weights' optimizer; 0 for online learners
    first_frozen: Count | None  #: first step after which a learned rate was zero


class Pretraining(Strict):
    """What happened before the stream, by epoch."""

    updates: Count
    best_epoch: Count | None
    train_loss: Losses
    val_accuracy: Shares


class Contexts(Strict):
    """First step and data set of each context."""

    starts: list[Count]
    sources: list[Count]
    names: list[str]


class OsakaRecord(Record):
    """One run through a stream of contexts."""

    kind: Literal["osaka"]
    diverged_at: UpdateOrStep | None  #: update of pretraining, or step of the stream
    curves: OsakaCurves
    final: OsakaFinal
    pretraining: Pretraining | None
    contexts: Contexts
    correct: str  #: images of each step, packed; see :mod:`wheretolearn.continual.osaka.metrics`
    detected: str  #: 1 for each step at which a shift was seen, packed


KINDS: dict[str, type[Record]] = {
    "few-shot": FewShotRecord,
    "continual": ContinualRecord,
    "osaka": OsakaRecord,
}
"""Records by kind; a record that names none is of the first."""
