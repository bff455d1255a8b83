"""Whether a network computes what its classes say: the condition of every fast path."""

from __future__ import annotations

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
    if any(getattr(_torch_module, name) for name in _GLOBAL_HOOKS):
        return False
    return all(
        type(m) in classes
        and "forward" not in vars(m)
        and not any(vars(m)[name] for name in _HOOKS)
        for m in module.modules()
    )
