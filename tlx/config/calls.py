"""The functions that configs name, imported at last: only what is allowed, and is what it says."""

import importlib
from collections.abc import Callable
from typing import Any

from tlx.config.check import allowed_targets


def function_of(target: str) -> Callable[..., Any]:
    """The function, or class, of a dotted name.

    Raises:
        ValueError: it is not allowed, or is not the function that its name says.
    """
    if target not in allowed_targets():
        raise ValueError(f"_target_: {target} is not allowed; see `tlx list targets`")
    module, _, name = target.rpartition(".")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    if (function.__module__, function.__qualname__) != (module, name):
        raise ValueError(f"_target_: {target} is {function.__module__}.{function.__qualname__}")
    return function
