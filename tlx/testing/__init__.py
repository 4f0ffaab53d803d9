"""Contracts that parts of one's own can be held to: base classes of tests.

```python
class TestMine(tlx.testing.StrategyContract):
    def make(self, layout):
        return mine(layout)
```

Python's own unittest runs them, and pytest does.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tlx.testing.backbone import BackboneContract
    from tlx.testing.penalty import PenaltyContract
    from tlx.testing.run import RunContract
    from tlx.testing.source import SourceContract
    from tlx.testing.strategy import StrategyContract
    from tlx.testing.task import TaskContract

__all__ = [
    "BackboneContract",
    "PenaltyContract",
    "RunContract",
    "SourceContract",
    "StrategyContract",
    "TaskContract",
]


def __getattr__(name: str) -> Any:
    """A contract, imported when it is asked for, as what it needs is heavy."""
    if name not in __all__:
        raise AttributeError(f"tlx.testing has no {name}; there are {', '.join(__all__)}")
    import importlib

    module = importlib.import_module(f"tlx.testing.{name.removesuffix('Contract').lower()}")
    return getattr(module, name)
