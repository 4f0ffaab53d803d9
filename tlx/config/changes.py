"""Where a mend has changed what a config means: which configs it concerns, and since when.

A config that a change concerns bears its mark in the hash, and so gets another id than the runs
that were trained before it; all others keep theirs. A run folder says in provenance.json under
which changes it was trained, so that no reader takes one meaning for the other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Node = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """One mend after which some configs train or judge something else than before.

    Attributes:
        mark: what stands in the hash and in provenance.json; never changed again.
        since: version of tlx that brought it.
        what: what such a config meant before, and means now, in a sentence.
        concerns: whether a normalised config means something else since. A key that asks for
            the old meaning makes it False.
        old: the override that asks for the old meaning; empty where there is none.
    """

    mark: str
    since: str
    what: str
    concerns: Callable[[Node], bool]
    old: str = ""


UNEQUAL = frozenset(
    {
        "tlx.tasks.token_classification.token_classification",
        "tlx.tasks.language_modeling.language_modeling",
        "tlx.data.augment.mixup",
        "tlx.data.augment.cutmix",
    }
)
"""Tasks whose items weigh differently, and what mixes a whole batch."""


def _target(node: Any) -> str:
    return str(node.get("_target_")) if isinstance(node, Mapping) else ""


def _accumulates_unequal_weights(config: Node) -> bool:
    """Whether a batch comes in parts, and its items may weigh differently, or are mixed."""
    if config["trainer"].get("accumulate") == 1:
        return False
    weights = config["task"].get("class_weights") or [1.0]
    used = {_target(node) for node in (config["task"], *config["augmentation"].values())}
    return any(weight != weights[0] for weight in weights) or not used.isdisjoint(UNEQUAL)


CHANGES: tuple[Change, ...] = (
    Change(
        mark="accumulated-weights",
        since="0.2.0",
        what="each part of a batch (trainer.accumulate) was divided by the weights of its own "
        "items, and mixed by itself; now the batch is weighed and mixed as a whole",
        concerns=_accumulates_unequal_weights,
    ),
)
"""All changes, oldest first. Only ever added to: ids of finished runs rest on it."""


def concerning(config: Node) -> tuple[Change, ...]:
    """The changes that concern a normalised config, oldest first."""
    return tuple(change for change in CHANGES if change.concerns(config))


def marks(config: Node) -> list[str]:
    """Marks of the changes that concern a normalised config, sorted."""
    return sorted(change.mark for change in concerning(config))


def lacking(config: Node, trained_under: Sequence[str]) -> tuple[Change, ...]:
    """The changes that concern a config, but under which its run was not trained.

    Args:
        config: normalised.
        trained_under: marks in the provenance of the run.
    """
    return tuple(change for change in concerning(config) if change.mark not in trained_under)
