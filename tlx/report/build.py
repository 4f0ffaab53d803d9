"""Builds the report on a study: its page and its tables."""

from dataclasses import dataclass
from pathlib import Path

from tlx.report import (
    data,
    factors,
    fold_table,
    html,
    tables,
    tables_runs,
    trials,
    view,
    writing,
)
from tlx.report.data import StudyView
from tlx.report.formats import Table
from tlx.results.manifest import PAGE

TABLES = "tables"


@dataclass(frozen=True, kw_only=True)
class Built:
    """What was written.

    Attributes:
        html: the page; None where none was wanted.
        tables: every file of every table.
    """

    html: Path | None
    tables: tuple[Path, ...]


def build(study_folder: Path | str, *, runs_dir: Path | str, page: bool = True) -> Built:
    """Writes `report.html` and `tables/` into a study's folder.

    Args:
        study_folder: with the manifest.
        runs_dir: where runs live.
        page: whether the page is wanted.

    Raises:
        ManifestError: there is no manifest, or it is broken.
    """
    return of_study(data.read(Path(study_folder), runs_dir=Path(runs_dir)), page=page)


def of_study(study: StudyView, *, page: bool = True) -> Built:
    """Writes page and tables of a study that has been read."""
    known = _known(study)
    made = {name: table for name, table in known.items() if table is not None}
    folder = study.folder / TABLES
    paths: list[Path] = []
    for table in made.values():
        paths += writing.write(folder, table, study=study.manifest.study)
    writing.remove(folder, known, but=paths)
    written = html.write(study.folder / PAGE, study, made) if page else None
    return Built(html=written, tables=tuple(paths))


def all_tables(study: StudyView) -> dict[str, Table]:
    """Every table that the study has something for, by name."""
    return {name: table for name, table in _known(study).items() if table is not None}


def _known(study: StudyView) -> dict[str, Table | None]:
    """Every table that a report can have; None where this study has nothing for it."""
    return {
        "claims": tables.claims(study),
        "main": tables.main(study),
        "splits": tables.by_split(study),
        "differences": tables.differences(study),
        "folds": fold_table.table(study),
        "effects": factors.table(study),
        "ranks": factors.rank_table(study),
        "trials": trials.table(study),
        **dict.fromkeys(view.views_of(study)),
        **view.tables(study),
        "figures": tables.figures(study),
        "cost": tables_runs.cost(study),
        "problems": tables_runs.problems(study),
        "runs": tables_runs.runs(study),
        "provenance": tables_runs.provenance(study),
    }
