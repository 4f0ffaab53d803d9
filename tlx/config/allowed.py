"""Functions besides tlx's own that a config may call: by name, or all that a module defines."""

from dataclasses import dataclass
from typing import final

from tlx.config import signatures


@final
@dataclass(frozen=True)
class Allowed:
    """A set of dotted names; what `mycode.*` covers is looked up when it is asked for.

    Args:
        names: exact ones.
        modules: of which all public functions and classes are allowed, and of modules below them:
            only what is defined there, not what they import.
    """

    names: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()

    def __contains__(self, target: object) -> bool:
        if not isinstance(target, str):
            return False
        module, _, name = target.rpartition(".")
        covered = self.covers(module)
        return target in self.names or (covered and name in signatures.public(module))

    def covers(self, module: str) -> bool:
        """Whether it allows what a module of this name defines, if there is one."""
        return any(f"{module}.".startswith(f"{each}.") for each in self.modules)

    def __or__(self, other: "Allowed") -> "Allowed":
        return Allowed(self.names | other.names, self.modules | other.modules)

    def listed(self) -> frozenset[str]:
        """Every single name; reads all the modules."""
        below = (part for module in self.modules for part in signatures.modules(module))
        return self.names | {f"{part}.{name}" for part in below for name in signatures.public(part)}
