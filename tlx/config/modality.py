"""Whether backbone, data, task and augmentations are about the same kind of thing."""

from collections.abc import Iterator, Mapping
from typing import Any

from tlx.config.problems import Problem
from tlx.config.signatures import constant

Node = Mapping[str, Any]
OTHERS = {"image": "images", "text": "texts"}


def modality(target: object) -> str | None:
    """What a function of tlx is about, `image` or `text`; None: either, or that cannot be told.

    Its module says so in a literal `MODALITY`; what says nothing is about images.
    """
    if not isinstance(target, str) or not target.startswith("tlx."):
        return None
    found = constant(target.rpartition(".")[0], "MODALITY")
    if found == "any":
        return None
    return found if isinstance(found, str) else "image"


def check(config: Node) -> Iterator[Problem]:
    """Problems of options that are about something else than the data."""
    data = _of(config.get("dataset"))
    if data is None:
        return
    trunk = _of(config.get("backbone"))
    if trunk not in (None, data):
        yield Problem(
            "backbone",
            f"reads {OTHERS[str(trunk)]}, and the data is {OTHERS[data]}; choose a backbone of "
            f"{OTHERS[data]} (tlx list backbone), or other data (tlx list dataset)",
        )
    augmentations = config.get("augmentation")
    for name, node in augmentations.items() if isinstance(augmentations, Mapping) else ():
        of = _of(node)
        if of not in (None, data):
            yield Problem(
                f"augmentation.{name}", f"is for {OTHERS[str(of)]}, and the data is {OTHERS[data]}"
            )


def _of(node: Any) -> str | None:
    return modality(node.get("_target_")) if isinstance(node, Mapping) else None
