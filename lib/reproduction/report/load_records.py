"""The layers of a figure: the paper's numbers, the study's records, the reader's own run.

A notebook calls :func:`study_records` for what came with the project and
:func:`own_records` for what was, or is now, trained on the reader's machine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..plan import study
from ..runs import launch
from ..runs.records import Record, load


def results_folder() -> Path:
    """Return the folder of the records.

    It is ``WHERETOLEARN_RESULTS`` if that is set, else the ``results`` folder of the project
    that the working directory lies in, or that this library lies in, else ``results`` here.

    Returns
    -------
    Path
    """
    if chosen := os.environ.get("WHERETOLEARN_RESULTS"):
        return Path(chosen)
    here = Path.cwd()
    for folder in (here, *here.parents, *Path(__file__).parents):
        if (folder / "_config.yml").exists() and (folder / "results").is_dir():
            return folder / "results"
    return here / "results"


def study_records(figure: str) -> list[Record]:
    """Return the study's records behind a figure, as they came with the project.

    Parameters
    ----------
    figure : str
        Name of the notebook.

    Returns
    -------
    list of dict
    """
    return load(results_folder(), study.experiments("study", figure))


def paper_records(figure: str) -> list[Record]:
    """Return the records of a figure with the paper's settings, as far as somebody ran them.

    Parameters and result are those of :func:`study_records`.
    """
    return load(results_folder(), study.experiments("paper", figure))


def own_records(
    figure: str,
    profile: str = "quick",
    *,
    seeds: Sequence[int] | int | str | None = None,
    device: str = "auto",
    data: str | None = None,
    fresh: bool | str = False,
) -> list[Record]:
    """Return the records of the reader's own runs; what is missing is trained now.

    Papermill's command line passes lists and truth values as texts, which are read.

    Parameters
    ----------
    figure : str
        Name of the notebook.
    profile : str, default "quick"
        ``quick``, ``study``, ``search``, ``paper`` or ``smoke``.
    seeds : sequence of int, int or str, optional
        Which seeds, such as ``[0, 1]`` or ``"[0, 1]"``; those of the profile by default.
    device : str, default "auto"
        ``auto``, ``cpu``, ``cuda``, ``mps`` or ``xpu``.
    data : str, optional
        Root of the data.
    fresh : bool or str, default False
        Train everything again, into ``results/own/``, even what has a record.

    Returns
    -------
    list of dict

    Raises
    ------
    ValueError
        For an unknown profile or figure, or something that is no seed.
    """
    seeds, fresh = _read("seeds", seeds), _read("fresh", fresh)
    if not isinstance(fresh, bool):
        raise ValueError(f"fresh is true or false, got {fresh!r}")
    root = results_folder() / "own" if fresh else results_folder()
    chosen = study.experiments(profile, figure)
    if seeds is None:
        seeds = study.seeds(chosen[0])
    wanted: list[Any] = list(seeds) if isinstance(seeds, Iterable) else [seeds]
    for seed in wanted:
        launch.check_seed(seed)
    runs = [(e, s) for s in dict.fromkeys(wanted) for e in chosen]  # twice is no second seed
    known = set() if fresh else {(r["experiment"], r["seed"]) for r in load(root, chosen)}
    missing = [(e, s) for e, s in runs if (e.name, s) not in known]
    if missing:
        minutes = sum(e.seconds() for e, _ in missing) / 60
        print(f"{len(missing)} runs to train, about {minutes:.0f} minutes on one CPU core")
    return [launch.run(e, s, results=root, data=data, device=device, fresh=fresh) for e, s in runs]


def _read(name: str, value: Any) -> Any:
    """Return what a text says that stands for a list, a number or a truth value."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value.lower())
    except ValueError:
        raise ValueError(f"{name} cannot be read: {value!r}") from None
