"""The paper's settings start, are interrupted, and go on: shortened, and otherwise as they are.

What is shortened: the images, the number of inner steps, updates, tasks and episodes; for
ResNet-12 the width, and for sparse-MAML+ the noise (its maps would take a gigabyte).
"""

import numpy as np
import pytest
import torch

from reproduction.plan import study
from reproduction.runs.few_shot import FewShotRun
from reproduction.runs.mask_codec import rearrange, unpack
from synthetic import image_set

SHORT = {
    "image_size": 16,
    "shots": 1,
    "queries": 1,
    "inner_steps": 1,
    "meta_batch": 1,
    "updates": 3,
    "eval_every": 2,
    "val_tasks": 1,
    "test_tasks": 2,
}
IMAGES = {c: image_set(size=16, per_class=3, channels=c) for c in (1, 3)}
RUNS = {
    (e.network, e.method, e.order, e.masks_as, bool(e.masks_from)): e
    for e in study.few_shot("paper")
}
"""One run for each kind."""


def shortened(experiment):
    changes = dict(SHORT)
    if experiment.network == "resnet12":
        changes["width"] = 4
    if experiment.method == "sparse-maml-plus":
        changes["noise"] = 4
    probes = tuple(p for p in experiment.probes if not p.startswith("on:"))
    return experiment.replace(**changes, probes=probes)


def test_every_notebook_of_the_study_has_the_papers_settings():
    pages = set(study.FIGURES["study"]) - {study.SPEED, study.TRAINED_LONG}
    assert pages == set(study.FIGURES["paper"])


@pytest.mark.parametrize("experiment", RUNS.values(), ids=lambda e: e.name)
def test_starts_and_goes_on(experiment, tmp_path):
    short = shortened(experiment)
    images, masks = IMAGES[short.channels], None
    if short.masks_from:
        shapes = {n: p.shape for n, p in short.build_network().named_parameters()}
        packed = whole(shortened(study.find_few_shot("paper", short.masks_from)))["final"]["masks"]
        masks = rearrange(unpack(packed, shapes), short.masks_as, np.random.default_rng(0))

    def start():
        return FewShotRun(short, 0, images, device="cpu", masks=masks)

    expected = start().finish()
    assert expected["status"] == "finished"
    assert expected["final"]["update"] == 3

    run = start()
    run.advance()
    torch.save([run.state_dict(), torch.get_rng_state()], tmp_path / "run.pt")
    again = start()
    state, random = torch.load(tmp_path / "run.pt")
    again.load_state_dict(state)
    torch.set_rng_state(random)
    assert again.update == 1
    assert again.finish() == expected


def whole(experiment):
    images = IMAGES[experiment.channels]
    return FewShotRun(experiment, 0, images, device="cpu").finish()
