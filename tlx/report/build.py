"""Builds the report on a study: its page and its tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tlx.report import data, factors, html, tables, tables_runs, trials, writing
from tlx.report.data import Study
from tlx.report.formats import Table

PAGE = "report.html"
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


def of_study(study: Study, *, page: bool = True) -> Built:
    """Writes page and tables of a study that has been read."""
    made = all_tables(study)
    folder = study.folder / TABLES
    paths: list[Path] = []
    for table in made.values():
        prose = table.name not in ("figures", "runs", "provenance")
        paths += writing.write(folder, table, study=study.manifest.study, prose=prose)
    written = html.write(study.folder / PAGE, study, made) if page else None
    return Built(html=written, tables=tuple(paths))


def all_tables(study: Study) -> dict[str, Table]:
    """Every table that the study has something for, by name."""
    found: Sequence[Table | None] = (
        tables.claims(study),
        tables.main(study),
        tables.by_split(study),
        tables.differences(study),
        factors.table(study),
        factors.rank_table(study),
        trials.table(study),
        tables.figures(study),
        tables_runs.cost(study),
        tables_runs.problems(study),
        tables_runs.runs(study),
        tables_runs.provenance(study),
    )
    return {table.name: table for table in found if table is not None}
