"""Texts that need no download: docstrings and code of the Python standard library."""

import platform
from collections.abc import Sequence
from typing import Literal

from tlx.data import stdlib_sources as library
from tlx.data.source_tags import TAGS, Chunk, chunks
from tlx.data.splits import SOURCE, Labels, Splits
from tlx.data.stdlib_sources import Division
from tlx.data.subset import Draw
from tlx.data.texts import Texts, from_texts

MODALITY = "text"
BETWEEN = "\n\n"
"""Stands between the docstrings of a module."""


def stdlib_docs(
    *,
    about: Literal["topic", "tags", "language"] = "topic",
    of: Literal["all", "topic"] = "all",
    text: Literal["docstring", "module"] = "docstring",
    source_text: Literal["rest"] | None = None,
    labels_per_class: int | None = None,
    fraction: float | None = None,
    limit_val: bool = True,
    length_buckets: bool = True,
    seed: int = 0,
    split_seed: int = 0,
) -> Splits:
    """Docstrings or code of the standard library of the running Python, divided by module.

    Modules are read, never imported. The modules to validate and to test on are the same whatever
    this is about, and none of their texts trains anything. Versions of Python differ a little.

    Args:
        about: `topic`: which of eight topics a docstring is from, the module's own name being
            replaced by `module`; `tags`: kinds of words in code; `language`: the docstrings
            themselves, for language models.
        of: of `language`: docstrings of `all` modules, or of those only that `topic` trains on.
        text: of `language`: each `docstring`, or all of a `module` as one text, whose windows then
            reach over several.
        source_text: `rest`, of `language` `of=topic`: docstrings of the modules of no topic, which
            `of=all` trains on, are evaluated before and after training as `source`; None: nothing
            is.
        labels_per_class: of `topic`: training texts of each class; as many to validate on.
        fraction: of the training texts instead.
        limit_val: whether validation is limited likewise.
        length_buckets: whether training batches are made of texts of like length.
        seed: of the few-shot draw.
        split_seed: of the division of modules.

    Raises:
        ValueError: this Python comes without its sources, there are too few texts, or there is no
            such rest.
    """
    if source_text is not None and (source_text, about, of) != ("rest", "language", "topic"):
        raise ValueError(
            f"dataset.source_text={source_text!r}; give rest, with dataset.about=language and "
            "dataset.of=topic, or null"
        )
    if text not in ("docstring", "module") or (text == "module" and about != "language"):
        raise ValueError(
            f"dataset.text={text!r}; give docstring, or, with dataset.about=language, module"
        )
    draw = Draw(
        labels_per_class=labels_per_class,
        fraction=fraction,
        limit_val=limit_val,
        seed=seed,
        split_seed=split_seed,
    )
    parts = library.division(split_seed=split_seed)
    if about == "topic":
        labels = Labels("single", tuple(sorted(library.TOPICS)))
        pools = _documents(parts, topics_only=True, classes=labels.names)
    elif about == "language":
        labels = Labels("text", ())
        pools = _documents(parts, topics_only=of == "topic", classes=None, whole=text == "module")
        if source_text is not None:
            pools[SOURCE] = _rest(whole=text == "module")
    elif about == "tags":
        labels = Labels("tags", TAGS)
        pools = _code(parts)
    else:
        raise ValueError(f"dataset.about={about!r}; give topic, tags or language")
    return from_texts(
        pools,
        labels,
        draw=draw,
        length_buckets=length_buckets,
        notes={"python": platform.python_version()},
        source=None if source_text is None else SOURCE,
    )


def _documents(
    parts: Division, *, topics_only: bool, classes: tuple[str, ...] | None, whole: bool = False
) -> dict[str, Texts]:
    """Docstrings of each split, with their topics as targets where there are classes.

    Args:
        parts: the division of modules.
        topics_only: leave out modules of no topic.
        classes: the topics, or None.
        whole: make one text of a module's docstrings; there are no classes then.
    """
    found = {}
    for split in ("train", "val", "test"):
        kept = [
            each
            for each in library.documents(topics_only=topics_only)
            if parts.split(each.module) == split
        ]
        if whole:
            found[split] = _modules(kept)
            continue
        found[split] = Texts.of(
            [each.id for each in kept],
            [each.text for each in kept],
            [None if classes is None else classes.index(str(each.topic)) for each in kept],
        )
    return found


def _modules(documents: Sequence[library.Document]) -> Texts:
    """The docstrings of each module as one text, without targets."""
    texts: dict[str, list[str]] = {}
    for each in documents:
        texts.setdefault(each.module, []).append(each.text)
    joined = [BETWEEN.join(each) for each in texts.values()]
    return Texts.of(list(texts), joined, [None] * len(texts))


def _rest(*, whole: bool) -> Texts:
    """Docstrings of the modules of no topic."""
    kept = [each for each in library.documents(topics_only=False) if each.topic is None]
    if whole:
        return _modules(kept)
    return Texts.of([d.id for d in kept], [d.text for d in kept], [None] * len(kept))


def _code(parts: Division) -> dict[str, Texts]:
    """Code of the modules of all topics; of chunks with the same words, only the first."""
    kept: dict[str, list[tuple[str, Chunk]]] = {"train": [], "val": [], "test": []}
    seen: set[tuple[str, ...]] = set()
    for module, path in library.sources().items():
        for chunk in chunks(path) if library.topic_of(module) is not None else ():
            if chunk.words not in seen:
                seen.add(chunk.words)
                kept[parts.split(module)].append((f"{module}:{chunk.line}", chunk))
    return {
        split: Texts.of(
            [name for name, _ in found],
            [list(chunk.words) for _, chunk in found],
            [chunk.tags for _, chunk in found],
        )
        for split, found in kept.items()
    }
