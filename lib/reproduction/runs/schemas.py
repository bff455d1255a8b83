"""Checking plain data against the JSON schemas that lie beside the modules.

Compiled checks are fast, and explain little; what they refuse, ``jsonschema`` explains.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from importlib import resources
from typing import Any

import fastjsonschema


def fault(content: Any, package: str, name: str) -> str | None:
    """Return what breaks a schema, if anything does."""
    try:
        _compiled(package, name)(content)
    except fastjsonschema.JsonSchemaValueException as error:
        return _explained(content, package, name) or error.message
    return None


def _schema(package: str, name: str) -> dict[str, Any]:
    text = resources.files(package).joinpath(f"{name}.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@functools.cache
def _compiled(package: str, name: str) -> Callable[[Any], Any]:
    check: Callable[[Any], Any] = fastjsonschema.compile(_schema(package, name), use_default=False)
    return check


def _explained(content: Any, package: str, name: str) -> str | None:
    import jsonschema  # noqa: PLC0415 - seconds, which every process would pay

    validator = jsonschema.Draft202012Validator(_schema(package, name))
    error = jsonschema.exceptions.best_match(validator.iter_errors(content))
    if error is None:
        return None
    place = "/".join(str(p) for p in error.absolute_path) or "top level"
    return f"{place}: {error.message[:300]}"
