"""Tag schemes: how entities are written as one tag a word, read from it, and converted.

`iob2` begins every entity with B; `iob1` only one that follows another of its kind; `bioes` marks
ends (E) and single words (S) as well; `bmes` is the same with M within, and `bilou` with L at ends
and U for single words.

Source: Ramshaw and Marcus 1995, "Text Chunking using Transformation-Based Learning",
cmp-lg/9505040 (iob1); Tjong Kim Sang and Veenstra 1999, "Representing Text Chunks",
cs/9907006 (iob2).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from tlx.methods.entities import Entity, entities

Scheme = Literal["iob2", "iob1", "bioes", "bmes", "bilou"]
SCHEMES: tuple[Scheme, ...] = ("iob2", "iob1", "bioes", "bmes", "bilou")
MARKS: dict[Scheme, tuple[str, ...]] = {
    "iob2": ("B", "I"),
    "iob1": ("B", "I"),
    "bioes": ("B", "I", "E", "S"),
    "bmes": ("B", "M", "E", "S"),
    "bilou": ("B", "I", "L", "U"),
}
"""Marks of a word: in the order begin, within, end, single."""


class Fault(NamedTuple):
    """A tag that cannot stand where it does.

    Attributes:
        place: of the word, from 0; the last one where the sequence ends too early.
        message: what is wrong with it.
    """

    place: int
    message: str


class Repair(NamedTuple):
    """A word whose tag is another in its scheme, once the entities of its sequence are known.

    Attributes:
        place: of the word, from 0.
        tag: that it has.
        read: that writes the entity which is read there.
    """

    place: int
    tag: str
    read: str


class TagError(ValueError):
    """A sequence of tags does not follow its scheme; `faults` are all of them."""

    def __init__(self, faults: Sequence[Fault], scheme: Scheme) -> None:
        """The error of one sequence."""
        shown = "; ".join(f"word {fault.place}: {fault.message}" for fault in faults)
        super().__init__(f"tags are not {scheme}: {shown}")
        self.faults = tuple(faults)


def readable(tag: str, scheme: Scheme) -> bool:
    """Whether a tag is `O`, or a mark of the scheme, `-` and a kind.

    >>> readable("B-per", "iob2"), readable("S-per", "iob2"), readable("B", "iob2")
    (True, False, False)
    """
    mark, dash, kind = tag.partition("-")
    return tag == "O" or (bool(dash and kind) and mark in MARKS[scheme])


def faults(tags: Sequence[str], scheme: Scheme) -> list[Fault]:
    """All that is wrong with a sequence, by place; nothing where it follows the scheme.

    >>> faults(["O", "I-per"], "iob2")
    [Fault(place=1, message="'I-per' cannot follow 'O'")]
    >>> faults(["O", "I-per"], "iob1")
    []
    """
    found = []
    before = "O"
    for place, tag in enumerate(tags):
        if not readable(tag, scheme):
            marks = ", ".join(f"{mark}-" for mark in MARKS[scheme])
            found.append(Fault(place, f"{tag!r} is no tag of {scheme} (O, {marks} and a kind)"))
            before = "O"
            continue
        if not _follows(before, tag, scheme):
            after = f"follow {before!r}" if place else f"begin a sequence of {scheme}"
            found.append(Fault(place, f"{tag!r} cannot {after}"))
        before = tag
    if tags and not _follows(before, "O", scheme):
        found.append(Fault(len(tags) - 1, f"{before!r} cannot end a sequence"))
    return found


def _follows(before: str, tag: str, scheme: Scheme) -> bool:
    """Whether a readable tag may come right after another."""
    (mark, _, kind), (last, _, last_kind) = tag.partition("-"), before.partition("-")
    same = kind == last_kind
    if scheme == "iob2":
        return mark != "I" or same
    if scheme == "iob1":
        return mark != "B" or same
    begin, within, end, _ = MARKS[scheme]
    goes_on = mark in (within, end)
    return (goes_on and same) if last in (begin, within) else not goes_on


def spans(tags: Sequence[str], *, scheme: Scheme, strict: bool = True) -> list[Entity]:
    """The entities of a sequence of tags.

    Args:
        tags: one a word.
        scheme: that they are written in.
        strict: refuse a tag that cannot follow. Otherwise an entity begins where a word does not
            go on with the one before, and lasts as long as words do, as the CoNLL scorer reads.

    Raises:
        TagError: strict, and tags do not follow; or tags that the scheme does not have.

    >>> spans(["B-per", "E-per", "S-loc"], scheme="bioes")
    [Entity(kind='per', start=0, end=2), Entity(kind='loc', start=2, end=3)]
    """
    wrong = faults(tags, scheme)
    if not strict:
        wrong = [fault for fault in wrong if not readable(tags[fault.place], scheme)]
    if wrong:
        raise TagError(wrong, scheme)
    return entities(list(_plain(tags, scheme)))


def _plain(tags: Iterable[str], scheme: Scheme) -> Iterator[str]:
    """Readable tags with no other marks than B and I, and the same entities."""
    if MARKS[scheme] == ("B", "I"):
        yield from tags
        return
    begin, _, end, single = MARKS[scheme]
    closed = False
    for tag in tags:
        mark, dash, kind = tag.partition("-")
        begins = mark in (begin, single) or closed
        yield tag if tag == "O" else f"{'B' if begins else 'I'}{dash}{kind}"
        closed = mark in (end, single)


def written(found: Iterable[Entity], *, words: int, scheme: Scheme) -> list[str]:
    """The tags of a sequence with some entities.

    Args:
        found: entities, in any order.
        words: length of the sequence.
        scheme: to write.

    Raises:
        ValueError: entities overlap, are empty, or reach beyond the sequence.

    >>> written([Entity("per", 0, 2), Entity("per", 2, 3)], words=4, scheme="iob1")
    ['I-per', 'I-per', 'B-per', 'O']
    """
    tags = ["O"] * words
    last = Entity("", 0, 0)
    for entity in sorted(found, key=lambda entity: entity.start):
        if not last.end <= entity.start < entity.end <= words:
            raise ValueError(f"{entity} after {last} does not fit a sequence of {words} words")
        touches = entity.kind == last.kind and entity.start == last.end
        for place, mark in enumerate(_marks(entity.end - entity.start, scheme, touches=touches)):
            tags[entity.start + place] = f"{mark}-{entity.kind}"
        last = entity
    return tags


def _marks(length: int, scheme: Scheme, *, touches: bool) -> str:
    """Marks of the words of one entity."""
    if scheme == "iob1":
        return ("B" if touches else "I") + "I" * (length - 1)
    if scheme == "iob2":
        return "B" + "I" * (length - 1)
    begin, within, end, single = MARKS[scheme]
    return single if length == 1 else begin + within * (length - 2) + end


def converted(tags: Sequence[str], *, scheme: Scheme, to: Scheme, strict: bool = True) -> list[str]:
    """The same entities in another scheme; see `spans` and `written`.

    Raises:
        TagError: see `spans`.

    >>> converted(["I-per", "I-per", "B-per"], scheme="iob1", to="bmes")
    ['B-per', 'E-per', 'S-per']
    """
    found = spans(tags, scheme=scheme, strict=strict)
    return written(found, words=len(tags), scheme=to)


def repairs(tags: Sequence[str], scheme: Scheme) -> list[Repair]:
    """The tags that say something else than what the CoNLL scorer reads, see `spans`.

    There are none if and only if the sequence has no faults.

    Raises:
        TagError: there are tags that the scheme does not have.

    >>> repairs(["O", "I-per", "I-per"], "iob2")
    [Repair(place=1, tag='I-per', read='B-per')]
    >>> repairs(["B-per", "O"], "bioes")
    [Repair(place=0, tag='B-per', read='S-per')]
    """
    right = converted(tags, scheme=scheme, to=scheme, strict=False)
    pairs = enumerate(zip(tags, right, strict=True))
    return [Repair(place, tag, read) for place, (tag, read) in pairs if tag != read]


def detected(sequences: Iterable[Sequence[str]]) -> Scheme:
    """The scheme that the fewest words of a corpus contradict.

    Of several, the one that has most of its tags, since what cannot follow can be read all the
    same; then the first of SCHEMES.

    >>> detected([["O", "I-per", "B-per"]]), detected([["B-per", "O"], ["S-per"]])
    ('iob1', 'bioes')
    """
    held = list(sequences)

    def contradictions(scheme: Scheme) -> tuple[int, int]:
        wrong = [(tags[fault.place], fault) for tags in held for fault in faults(tags, scheme)]
        return len(wrong), sum(not readable(tag, scheme) for tag, _ in wrong)

    return min(SCHEMES, key=contradictions)
