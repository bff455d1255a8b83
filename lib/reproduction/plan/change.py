"""Changed experiments: named after their changes, in one order and one spelling."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..runs.experiment import Planned

_SEPARATOR = re.compile(r"\+(?=[A-Za-z_][\w.]*=)")


def changed(experiment: Planned, values: Mapping[str, Any]) -> Planned:
    """Return an experiment with some parameters changed, called ``<name>+width=32``.

    Settings of a learner are called ``settings.<name>``.
    """
    if "name" in values or "profile" in values:
        raise ValueError("name and profile cannot be changed")
    settings = {k.partition(".")[2]: v for k, v in values.items() if k.startswith("settings.")}
    plain = {k: v for k, v in values.items() if not k.startswith("settings.")}
    before = experiment.parameters()
    if settings:
        plain["settings"] = before.get("settings", {}) | plain.get("settings", {}) | settings
    result = experiment.replace(**plain)
    old, new = _spelt(before), _spelt(result.parameters())
    differing = [f"{name}={new[name]}" for name in sorted(new) if new[name] != old.get(name)]
    name = "+".join([experiment.name, *differing])
    if "/" in name or os.sep in name or not name.isprintable():
        raise ValueError(f"a change names a file and cannot hold {os.sep!r}: {dict(values)}")
    return result.replace(name=name)


def _spelt(parameters: dict[str, Any]) -> dict[str, str]:
    """Return values as text, a number always in one way, and settings one by one."""
    flat = {f"settings.{k}": v for k, v in parameters.get("settings", {}).items()}
    flat |= {k: v for k, v in parameters.items() if k != "settings"}
    return {
        k: v if isinstance(v, str) else re.sub(r"\.0$", "", json.dumps(v)) for k, v in flat.items()
    }


def read_changes(texts: Iterable[str]) -> dict[str, Any]:
    """Read ``name=value`` changes; values are JSON, or else text."""
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"a change is written name=value, got {text!r}")
        values[name] = read_value(value)
    return values


def read_value(text: str) -> Any:
    """Read a value as JSON, or else as text."""
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return text


def parts(name: str) -> tuple[str, list[str]]:
    """Return the name that an experiment has in the plan, and the changes in its present one."""
    base, *changes = _SEPARATOR.split(name)
    return base, changes


def grid(texts: Iterable[str]) -> tuple[list[dict[str, Any]], list[int] | None]:
    """Read ``inner_rate=0.1,0.5 seed=0-4``: all combinations of the values, and the seeds."""
    seeds: list[int] | None = None
    axes: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, listed = text.partition("=")
        if not equals or not listed:
            raise ValueError(f"values are written name=value,value, got {text!r}")
        if name in ("seed", "seeds"):
            seeds = [s for part in listed.split(",") for s in _span(part)]
        else:
            axes[name] = [read_value(v) for v in listed.split(",")]
    return [dict(zip(axes, v, strict=True)) for v in itertools.product(*axes.values())], seeds


def _span(text: str) -> range:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    if not match:
        raise ValueError(f"seeds are written 0,1 or 0-4, got {text!r}")
    return range(int(match[1]), int(match[2] or match[1]) + 1)
