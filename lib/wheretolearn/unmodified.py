"""Whether a network computes what its classes say: the condition of every fast path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.modules import module as _torch_module

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
_GLOBAL_HOOKS = tuple(f"_global{name}" for name in _HOOKS)


def unmodified(module: nn.Module, *classes: type[nn.Module]) -> bool:
    """Return whether a module and all modules in it run the code of some classes, and no other.

    A subclass may have a ``forward`` of its own, a hook may change inputs, outputs or
    gradients, a parametrisation makes weights from others (and a class of its own), and an
    instance may be given another ``forward``: each of them is a modification.

    Parameters
    ----------
    module : nn.Module
        What is called.
    *classes : type
        The exact classes that `module` and the modules in it may have.

    Returns
    -------
    bool
    """
    return not _hooks_on_all() and _of(module, classes)


def runs(module: nn.Module, forward: Callable[..., Any]) -> bool:
    """Return whether to call a module is to call this function of its class, and no other."""
    own = type(module)
    called = own.forward is forward and own.__call__ is nn.Module.__call__
    return called and _bare(module) and not _hooks_on_all()


def _of(module: nn.Module, classes: tuple[type[nn.Module], ...]) -> bool:
    # by hand, for it is asked at every call: module.modules() takes three times as long
    if type(module) not in classes or not _bare(module):
        return False
    return all(_of(m, classes) for m in module._modules.values() if m is not None)


def _bare(module: nn.Module) -> bool:
    own = vars(module)
    for name in _HOOKS:
        if own[name]:
            return False
    return "forward" not in own


def _hooks_on_all() -> bool:
    return any(getattr(_torch_module, name) for name in _GLOBAL_HOOKS)
