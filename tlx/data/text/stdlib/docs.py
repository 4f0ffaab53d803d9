"""Texts that need no download: docstrings and code of the Python standard library."""

import platform
from collections.abc import Sequence, Set
from typing import Literal, Unpack

from tlx.data.draw import Draw, Few
from tlx.data.items import Pool
from tlx.data.splits import SOURCE, Labels, Splits
from tlx.data.text.stdlib import sources as library
from tlx.data.text.stdlib.sources import HeldModules
from tlx.data.text.stdlib.tags import TAGS, Chunk, chunks
from tlx.data.text.texts import from_texts, text_pool

MODALITY = "text"
PATHS: dict[str, str] = {}
EXTRA = {"stdlib_docs": {"source_text": ["source", "source_before"]}}
"""Function to the evaluation sets that it makes where a key is given."""
BETWEEN = "\n\n"
"""Stands between the docstrings of a module."""


def stdlib_docs(
    *,
    about: Literal["topic", "tags", "language"] = "topic",
    of: Literal["all", "topic"] = "all",
    text: Literal["docstring", "module", "code"] = "docstring",
    source_text: Literal["rest"] | None = None,
    length_buckets: bool = True,
    **draw: Unpack[Few],
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
            reach over several, or a module's `code` as one text: names, strings and comments, in
            order, without docstrings that are validated or tested on.
        source_text: `rest`, of `language` `of=topic`: docstrings of the modules of no topic, which
            `of=all` trains on, are evaluated before and after training as `source`; None: nothing
            is.
        length_buckets: whether training batches are made of texts of like length.
        draw: see `Draw`; `split_seed` divides modules, `labels_per_class` is of `topic`.

    Raises:
        ValueError: this Python comes without its sources, there are too few texts, or there is no
            such rest.
    """
    if source_text is not None and (source_text, about, of) != ("rest", "language", "topic"):
        raise ValueError(
            f"dataset.source_text={source_text!r}; give rest, with dataset.about=language and "
            "dataset.of=topic, or null"
        )
    if text != "docstring" and (about != "language" or text not in ("module", "code")):
        raise ValueError(
            f"dataset.text={text!r}; give docstring, or, with dataset.about=language, module or "
            "code"
        )
    chosen = Draw(**draw)
    parts = library.division(split_seed=chosen.split_seed)
    if about == "topic":
        labels = Labels("single", tuple(sorted(library.TOPICS)))
        pools = _topics(parts, labels.names)
    elif about == "language":
        labels = Labels("text", ())
        pools = _language(parts, of=of, text=text)
        if source_text is not None:
            pools[SOURCE] = _rest(text)
    elif about == "tags":
        labels = Labels("tags", TAGS)
        pools = _code(parts)
    else:
        raise ValueError(f"dataset.about={about!r}; give topic, tags or language")
    return from_texts(
        pools,
        labels,
        draw=chosen,
        length_buckets=length_buckets,
        notes={"python": platform.python_version()},
        source=None if source_text is None else SOURCE,
    )


def _topics(parts: HeldModules, names: Sequence[str]) -> dict[str, Pool]:
    """Docstrings of each split, their topics as targets."""
    return {
        split: text_pool(
            [each.id for each in found],
            [each.text for each in found],
            [names.index(str(each.topic)) for each in found],
        )
        for split, found in _divided(parts, topics_only=True).items()
    }


def _language(parts: HeldModules, *, of: str, text: str) -> dict[str, Pool]:
    """Texts of each split, without targets."""
    divided = _divided(parts, topics_only=of == "topic")
    held = frozenset[str]().union(*(each.keys for s in ("val", "test") for each in divided[s]))
    return {
        split: _texts(found, text, without=held if split == "train" else frozenset())
        for split, found in divided.items()
    }


def _rest(text: str) -> Pool:
    """Texts of the modules of no topic."""
    documents = library.documents(topics_only=False)
    return _texts([each for each in documents if each.topic is None], text)


def _divided(parts: HeldModules, *, topics_only: bool) -> dict[str, list[library.Document]]:
    found: dict[str, list[library.Document]] = {"train": [], "val": [], "test": []}
    for document in library.documents(topics_only=topics_only):
        found[parts.split(document.module)].append(document)
    return found


def _texts(
    documents: Sequence[library.Document], text: str, *, without: Set[str] = frozenset()
) -> Pool:
    """Documents, or their modules as one text each, without targets.

    Args:
        documents: the docstrings.
        text: `docstring`, `module` or `code`.
        without: keys of documents that no code is to hold.
    """
    if text == "docstring":
        texts = {each.id: each.text for each in documents}
    else:
        modules: dict[str, list[str]] = {}
        for each in documents:
            modules.setdefault(each.module, []).append(each.text)
        texts = {
            module: BETWEEN.join(found)
            if text == "module"
            else library.code(module, without=without)
            for module, found in modules.items()
        }
    return text_pool(list(texts), list(texts.values()), [None] * len(texts))


def _code(parts: HeldModules) -> dict[str, Pool]:
    """Code of the modules of all topics; of chunks with the same words, only the first."""
    kept: dict[str, list[tuple[str, Chunk]]] = {"train": [], "val": [], "test": []}
    seen: set[tuple[str, ...]] = set()
    for module, path in library.sources().items():
        for chunk in chunks(path) if library.topic_of(module) is not None else ():
            if chunk.words not in seen:
                seen.add(chunk.words)
                kept[parts.split(module)].append((f"{module}:{chunk.line}", chunk))
    return {
        split: text_pool(
            [name for name, _ in found],
            [list(chunk.words) for _, chunk in found],
            [chunk.tags for _, chunk in found],
        )
        for split, found in kept.items()
    }
