"""Entities in tag sequences, and their counts, from which precision, recall and F1 follow.

Shapes: N sequences, W words, K kinds of entities.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tlx.methods.metrics import Counts


class Entity(NamedTuple):
    """Words `start` to `end` (not included), and what they name."""

    kind: str
    start: int
    end: int


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of one sequence of tags in IOB2 or IOB1, as the CoNLL scorer reads them.

    An entity begins at `B-`, and at an `I-` of another kind than the word before: predictions need
    not be well formed.

    Source: Tjong Kim Sang and De Meulder 2003, "Introduction to the CoNLL-2003 shared task".

    >>> entities(["B-per", "I-per", "O", "I-loc"])
    [Entity(kind='per', start=0, end=2), Entity(kind='loc', start=3, end=4)]
    """
    found: list[Entity] = []
    start, kind = 0, ""
    for place, tag in enumerate([*tags, "O"]):
        mark, _, of = tag.partition("-")
        goes_on = bool(kind) and mark == "I" and of == kind
        if goes_on:
            continue
        if kind:
            found.append(Entity(kind, start, place))
        start, kind = place, "" if mark == "O" else of
    return found


def kinds(tags: Sequence[str]) -> tuple[str, ...]:
    """What the tags can name, sorted.

    >>> kinds(["O", "B-per", "I-per", "B-loc"])
    ('loc', 'per')
    """
    return tuple(sorted({tag.partition("-")[2] for tag in tags if tag != "O"}))


def counted(
    predicted: Sequence[Sequence[str]], target: Sequence[Sequence[str]], *, names: Sequence[str]
) -> tuple[Tensor, Tensor, Tensor]:
    """Entities of each sequence that are right, predicted, and there: [N, K] each, float64.

    Args:
        predicted: N sequences of tags.
        target: likewise.
        names: the K kinds.

    >>> counted([["B-a", "O"]], [["B-a", "B-a"]], names=["a"])[2]
    tensor([[2.]], dtype=torch.float64)
    """
    place = {name: index for index, name in enumerate(names)}
    shape = (len(target), len(names))
    hits, given, there = (torch.zeros(shape, dtype=torch.float64) for _ in range(3))
    for row, (mine, truth) in enumerate(zip(predicted, target, strict=True)):
        found, real = entities(mine), entities(truth)
        for entity in found:
            given[row, place[entity.kind]] += 1
        for entity in real:
            there[row, place[entity.kind]] += 1
        for entity in set(found) & set(real):
            hits[row, place[entity.kind]] += 1
    return hits, given, there


def weighted(counts: tuple[Tensor, Tensor, Tensor], weights_BN: Tensor) -> Counts:
    """Counts [B, K] under B weightings of the sequences.

    >>> one = torch.ones(1, 1, dtype=torch.float64)
    >>> weighted((one, one, one), torch.tensor([[2.0]])).hits
    tensor([[2.]], dtype=torch.float64)
    """
    hits, given, there = (weights_BN.double() @ part for part in counts)
    return Counts(hits=hits, predicted=given, support=there)


def micro(counts: Counts) -> Counts:
    """All kinds as one, [B, 1].

    >>> one = torch.ones(1, 2)
    >>> micro(Counts(one, one, one)).support
    tensor([[2.]])
    """
    return Counts(
        *(part.sum(1, keepdim=True) for part in (counts.hits, counts.predicted, counts.support))
    )
