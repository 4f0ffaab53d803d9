"""What a page consists of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tlx.report.figure import Figure
from tlx.report.formats import Table

LONGEST, SHORTENED = 1_500, 300
"""Rows of a table that the page lists, and of one of a study with many runs."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A table of the page.

    Attributes:
        table: what to list.
        most: rows that are listed.
        marked: whether the first column names arms, which get their mark.
        heading: instead of the table's title.
        endings: of its files.
        closed: text behind which it is folded away at first.
    """

    table: Table
    most: int
    marked: bool
    heading: str
    endings: tuple[str, ...]
    closed: str = ""


def listed(
    table: Table,
    *,
    many: bool,
    heading: str = "",
    closed: str = "",
    endings: tuple[str, ...] = (),
) -> Listing:
    """A table as the page lists it; of a study with many runs only the beginning."""
    return Listing(
        table=table,
        most=SHORTENED if many else LONGEST,
        marked=table.marked,
        heading=heading or table.title.partition(": ")[2],
        endings=endings or (("csv", "md", "tex") if table.prose else ("csv",)),
        closed=closed,
    )


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the page.

    Attributes:
        name: of its anchor.
        title: heading.
        text: a sentence or two.
        items: figures and listings, in order.
        commands: lines for a shell, each with what it does.
    """

    name: str
    title: str
    items: Sequence[Figure | Listing]
    text: str = ""
    commands: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, kw_only=True)
class Card:
    """A verdict as the page shows it."""

    kind: str
    mark: str
    status: str
    claim: str
    difference: str
    interval: str
    facts: str
    needs: str


@dataclass(frozen=True, kw_only=True)
class Head:
    """What stands at the top.

    Attributes:
        counts: status -> runs.
        facts: name -> text.
        warnings: what a reader must know before any number.
        verdicts: one a claim.
        trouble: why there are no verdicts.
        how: how claims were judged.
        foot: how figures were made.
    """

    counts: Mapping[str, int]
    facts: Mapping[str, str]
    warnings: Sequence[str]
    verdicts: Sequence[Card]
    trouble: str
    how: str
    foot: str
