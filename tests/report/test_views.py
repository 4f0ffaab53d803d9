"""Every view of tlx: a file each, named by a task, and silent where a study has nothing for it."""

from importlib import import_module
from pathlib import Path

import pytest

from tlx.config.places import conf_dir, targets_by_group
from tlx.config.signatures import constant
from tlx.report import data, view, views
from tlx.report.figure import Figure, styles
from tlx.report.formats import Table


def named():
    modules = {target.rpartition(".")[0] for target in targets_by_group()["task"]}
    return {module: constant(module, "VIEWS") for module in modules}


def test_the_order_names_every_file_and_tasks_name_every_view():
    files = {path.stem for path in Path(views.__file__).parent.glob("*.py")} - {"__init__"}
    assert sorted(files) == sorted(view.OWN)
    assert conf_dir().is_dir()
    assert {name for found in named().values() for name in found} == set(view.OWN)


@pytest.mark.parametrize("name", view.OWN)
def test_each_view_gives_tables_and_figures(name, studies):
    module = import_module(f"tlx.report.views.{name}")
    assert module.PART
    given = 0
    for runs_dir, folder, _ in studies.values():
        study = data.read(folder, runs_dir=runs_dir)
        tables, figures = module.tables(study), module.figures(study, styles(study))
        assert all(isinstance(table, Table) and table.name == name for table in tables)
        assert all(isinstance(figure, Figure) for figure in figures)
        given += len(tables) + len(figures)
    assert (given > 0) == (name in ("per_class", "confusion", "calibration"))
