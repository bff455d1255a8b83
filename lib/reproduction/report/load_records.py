"""The layers of a figure: the paper's numbers, the study's records, the reader's own run.

A notebook calls :func:`study_records` for what came with the project and
:func:`own_records` for what was, or is now, trained on the reader's machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..plan import study
from ..runs import run_or_resume
from ..runs.records import Record, load


def results_folder() -> Path:
    """Return the folder of the records."""
    if chosen := os.environ.get("WHERETOLEARN_RESULTS"):
        return Path(chosen)
    here = Path.cwd()
    for folder in (here, *here.parents, *Path(__file__).parents):
        if (folder / "_config.yml").exists() and (folder / "results").is_dir():
            return folder / "results"
    return here / "results"


def study_records(figure: str) -> list[Record]:
    """Return the study's records behind a figure, as they came with the project."""
    return load(results_folder(), study.experiments("study", figure))


def paper_records(figure: str) -> list[Record]:
    """Return the records of a figure with the paper's settings, as far as somebody ran them."""
    return load(results_folder(), study.experiments("paper", figure))


def own_records(
    figure: str,
    profile: str = "quick",
    *,
    seeds: Sequence[int] | int | str | None = None,
    device: str = "auto",
    data: str | None = None,
    fresh: bool | str = False,
    change: Mapping[str, Any] | str | None = None,
) -> list[Record]:
    """Return the records of the reader's own runs; what is missing is trained now.

    With a `change`, such as ``{"inner_rate": 0.5}``, every run of the figure is changed so; its
    record stands beside the others, named after the change, and is drawn in their place.
    """
    seeds, fresh = _read("seeds", seeds), _read("fresh", fresh)
    if not isinstance(fresh, bool):
        raise ValueError(f"fresh is true or false, got {fresh!r}")
    root = results_folder() / "own" if fresh else results_folder()
    change = _read("change", change) or {}
    if not isinstance(change, Mapping):
        raise ValueError(f"a change is written {{parameter: value}}, got {change!r}")
    planned = study.experiments(profile, figure)
    chosen = study.with_changes(profile, figure, change) if change else planned
    if seeds is None:
        seeds = study.seeds(planned[0])
    wanted: list[Any] = list(seeds) if isinstance(seeds, Iterable) else [seeds]
    for seed in wanted:
        run_or_resume.check_seed(seed)
    runs = [(e, s) for s in dict.fromkeys(wanted) for e in chosen]  # twice is no second seed
    # a record that is there is shown as it is, even where more could be asked of its network now
    known = {} if fresh else {(r["experiment"], r["seed"]): r for r in load(root, chosen)}
    missing = [e for e, s in runs if (e.name, s) not in known]
    if missing:
        minutes = sum(e.seconds() for e in missing) / 60
        print(f"{len(missing)} runs to train, about {minutes:.0f} minutes on one CPU core")
    made = [
        known.get((e.name, s))
        or run_or_resume.run(e, s, results=root, data=data, device=device, fresh=fresh)
        for e, s in runs
    ]
    places = {e.name: p.name for e, p in zip(chosen, planned, strict=True)}
    return [r | {"experiment": places[r["experiment"]]} for r in made]


def own_title(profile: str, change: Mapping[str, Any] | str | None = None) -> str:
    """Return the heading of a reader's own runs."""
    told = ", ".join(f"{k} = {v}" for k, v in dict(_read("change", change) or {}).items())
    return f"Your own run: profile {profile}{told and f', {told}'}"


def _read(name: str, value: Any) -> Any:
    """Return what a text says that stands for a list, a number or a truth value."""
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value)
    except (yaml.YAMLError, RecursionError):
        raise ValueError(f"{name} cannot be read: {value!r}") from None
