"""Views: the parts of a report that tasks bring, a module each."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Protocol, cast

from tlx.config.check import may_import
from tlx.report import views
from tlx.report.data import StudyView
from tlx.report.figure import Figure, Style
from tlx.report.formats import Table
from tlx.report.page import Listing, Part, listed

LOG = logging.getLogger(__name__)
OWN = ("per_class", "confusion", "calibration", "errors", "entities", "samples")
"""Files of the folder `views`, in the order in which a page shows them."""


class View(Protocol):
    """A module that shows what runs of some tasks recorded or wrote.

    A task's module names its views in a literal `VIEWS`: those of tlx by their file, others by
    their dotted name. What a view needs of a run stands in the `views` of its record's splits, as
    the task's `report` gave it, or in files of its predictions.

    A table is named as the module, or begins with that name and `_`.
    """

    PART: str
    """Heading of the part of the page, which several views may share."""

    def tables(self, study: StudyView) -> Sequence[Table]:
        """Tables of the study; none where it has nothing for them."""
        ...

    def figures(self, study: StudyView, styles: Mapping[str, Style]) -> Sequence[Figure]:
        """Figures of the study, with the styles of its arms; none where it has nothing for them."""
        ...


def views_of(study: StudyView) -> dict[str, View]:
    """A study's views by the last part of their names: tlx's, then those of somebody's tasks."""
    return study.once("views", lambda: _views(study))


def _views(study: StudyView) -> dict[str, View]:
    named = dict.fromkeys(name for r in study.records.values() for name in r.views or ())
    modules = [f"{views.__name__}.{name}" for name in OWN]
    modules += [name for name in named if name not in OWN and _importable(name)]
    return {name.rpartition(".")[2]: cast(View, import_module(name)) for name in modules}


def _importable(name: str) -> bool:
    """Whether a view that records name may be run; says where it may not."""
    if may_import(name):
        return True
    LOG.warning(
        "The report leaves out the view %s, whose code tlx may not run: add %r to allow_targets",
        name,
        f"{name.partition('.')[0]}.*",
    )
    return False


def tables(study: StudyView) -> dict[str, Table]:
    """Every table of every view, by name.

    Raises:
        ValueError: a table's name is none of its view's.
    """
    return study.once("view_tables", lambda: {table.name: table for table in _tables(study)})


def _tables(study: StudyView) -> Iterator[Table]:
    for name, view in views_of(study).items():
        for table in view.tables(study):
            if table.name != name and not table.name.startswith(f"{name}_"):
                raise ValueError(
                    f"view {name}: its table {table.name!r} is to be named {name!r}, or {name}_…"
                )
            yield table


def parts(study: StudyView, styles: Mapping[str, Style]) -> list[Part]:
    """The views' parts of the page, in the order in which they come."""
    items: dict[str, list[Figure | Listing]] = {}
    for name, view in views_of(study).items():
        own = [t for t in tables(study).values() if t.name == name or t.name.startswith(f"{name}_")]
        items.setdefault(view.PART, []).extend(
            [*view.figures(study, styles), *(listed(table, many=study.many) for table in own)]
        )
    return [
        Part(name="-".join(title.lower().split()), title=title, items=of)
        for title, of in items.items()
    ]
