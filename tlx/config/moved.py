"""Modules of options under the names that they had first, by which runs are known.

A run's id is a hash of its config, dotted names included, and its folder holds them. So a function
that moves keeps its first name in ids, and configs that were written before are read under today's.
"""

from collections.abc import Mapping

from tlx.base.nodes import Node

FIRST: Mapping[str, str] = {
    "tlx.backbones.text.recurrent": "tlx.backbones.recurrent",
    "tlx.backbones.text.tfidf": "tlx.backbones.tfidf",
    "tlx.backbones.timm.networks": "tlx.backbones.timm",
    "tlx.backbones.transformers.text": "tlx.backbones.transformers",
    "tlx.data.images.augment": "tlx.data.augment",
    "tlx.data.images.digits": "tlx.data.embedded",
    "tlx.data.images.folder": "tlx.data.folder",
    "tlx.data.images.huggingface": "tlx.data.huggingface",
    "tlx.data.images.table": "tlx.data.table",
    "tlx.data.images.torchvision": "tlx.data.torchvision",
    "tlx.data.text.augment": "tlx.data.text_augment",
    "tlx.data.text.conll": "tlx.data.conll",
    "tlx.data.text.folder": "tlx.data.text_folder",
    "tlx.data.text.lines": "tlx.data.text_lines",
    "tlx.data.text.stdlib.docs": "tlx.data.embedded_text",
    "tlx.data.text.table": "tlx.data.text_table",
    "tlx.training.logs.loggers": "tlx.training.loggers",
}
"""Today's module (or function, where it moved alone) to the name that it had first."""

_TODAY = {first: today for today, first in FIRST.items()}


def first(target: str) -> str:
    """The name that a function had first: what ids are made of.

    >>> first("tlx.data.images.table.image_csv")
    'tlx.data.table.image_csv'
    """
    return _renamed(target, FIRST)


def today(target: str) -> str:
    """The name that a function has today, whichever it is called by."""
    return _renamed(target, _TODAY)


def current(config: Node) -> dict[str, object]:
    """A config, or a part of one, with each `_target_` under today's name."""
    return {key: _current(key, value) for key, value in config.items()}


def _current(key: str, value: object) -> object:
    if isinstance(value, Mapping):
        return current(value)
    return today(value) if key == "_target_" and isinstance(value, str) else value


def _renamed(target: str, names: Mapping[str, str]) -> str:
    module, _, function = target.rpartition(".")
    return names.get(target) or (f"{names[module]}.{function}" if module in names else target)
