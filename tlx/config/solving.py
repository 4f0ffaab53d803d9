"""What an optimizer says of itself in literals of its module, read without importing it.

`SOLVES` names functions that solve for a head's weights instead of stepping towards them; `STACKS`
gives, of those whose steps many heads can take as one, the function that makes a run's part.
"""

from tlx.config.signatures import constant


def solves(target: str) -> bool:
    """Whether an optimizer, by its dotted name, is one that solves."""
    module, _, name = target.rpartition(".")
    return name in (constant(module, "SOLVES") or ())


def stacks_as(target: str) -> str | None:
    """Dotted name of what makes a run's part in a stack, of the optimizer's own arguments.

    None where each run of the optimizer trains alone.
    """
    module, _, name = target.rpartition(".")
    maker = (constant(module, "STACKS") or {}).get(name)
    return maker and f"{module}.{maker}"
