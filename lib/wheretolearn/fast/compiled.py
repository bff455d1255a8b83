"""Functions compiled by Numba, and kept on disk where that is possible.

Numba itself refuses to define a function where neither the library's folder nor the user's can
be written, as in many containers, and fails at every call once a kept file is damaged.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile


def jit(*arithmetic: str) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function for the types of each call."""

    def compiled(function: Callable[..., Any]) -> Any:
        compiler = numba.njit(nogil=True, error_model="numpy", fastmath=set(arithmetic))
        found: Any = compiler(function)
        if found is not function:  # it is where Numba is switched off
            with contextlib.suppress(RuntimeError):  # nowhere to keep it: compiled every time
                found._cache = _Cache(function)
        return found

    return compiled


class _Cache(FunctionCache):
    """One that is made anew where it is damaged, and done without where it cannot be written."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # what pickle raises for a damaged file may be anything
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


class _Files(IndexDataCacheFile):
    """Compiled code stands in a file with its digest, for a processor runs whatever it is given."""

    def _save_data(self, name: str, data: Any) -> None:
        code = self._dump(data)
        super()._save_data(name, (sha256(code).digest(), code))

    def _load_data(self, name: str) -> Any:
        digest, code = super()._load_data(name)
        if sha256(code).digest() != digest:
            raise ValueError(f"{name} is damaged")
        return pickle.loads(code)
