"""Whether backbone, data and augmentations are about the same kind of thing."""

from collections.abc import Iterator

from tlx.base.nodes import Node, node_at, target_of
from tlx.config.problems import Problem
from tlx.config.signatures import PACKAGE, constant

ANY = "any"
"""What a module says that is about anything."""


def modality(target: object) -> str | None:
    """What a function is about, as its module says in a literal `MODALITY`.

    None: about anything, or nothing is said.
    """
    word = constant(str(target).rpartition(".")[0], "MODALITY")
    return word if isinstance(word, str) and word != ANY else None


def check(config: Node) -> Iterator[Problem]:
    """Problems of options that are about something else than the data."""
    data = modality(target_of(config.get("dataset")))
    if data is None:
        return
    trunk = modality(target_of(config.get("backbone")))
    if trunk not in (None, data):
        yield Problem(
            "backbone",
            f"reads {_many(trunk)}, and the data is {_many(data)}; choose a backbone of "
            f"{_many(data)} (tlx list backbone), or other data (tlx list dataset)",
        )
    for name, node in node_at(config, "augmentation").items():
        of = modality(target_of(node))
        if of not in (None, data):
            yield Problem(
                f"augmentation.{name}", f"is for {_many(of)}, and the data is {_many(data)}"
            )


def _many(word: str | None) -> str:
    """What several items are called: the literal `NOUN` of the modality's folder, if it has one."""
    for path in sorted(PACKAGE.glob("data/*/__init__.py")):
        folder = f"{PACKAGE.name}.data.{path.parent.name}"
        if constant(folder, "MODALITY") == word:
            return str(constant(folder, "NOUN")[1])
    return str(word)
