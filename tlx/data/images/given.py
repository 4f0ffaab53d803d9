"""Images that a finished run is to predict: files, folders and tables of paths."""

from collections.abc import Iterable
from pathlib import Path

from tlx.data.images.read import EXTENSIONS
from tlx.data.listed import path_in
from tlx.data.tables.given import (
    Config,
    cells_of,
    column_of,
    formats_of,
    of_folder,
    read_table,
    there,
    word_of,
)
from tlx.data.tree import refuse_unwritable


def images(inputs: Iterable[str | Path], dataset: Config) -> list[Path]:
    """Images by files, folders and tables.

    Args:
        inputs: files; folders, of which all visible images are taken; tables of paths.
        dataset: of the run, which says how a table is read.

    Raises:
        FileNotFoundError: something is not there.
        ValueError: there are no images, or a table is wrong.
    """
    given, formats = list(inputs), formats_of(dataset)
    paths: list[Path] = []
    for each in given:
        path = there(Path(each).expanduser())
        if path.is_dir():
            paths += of_folder(path, EXTENSIONS)
        elif path.suffix.lower() in formats:
            column = column_of(dataset, "image_column", "path")
            table = read_table(path, dataset, {"image_column": column})
            base = Path(word_of(dataset, "root", str(path.parent))).expanduser()
            cells = cells_of(table, dataset, ["image_column"])
            paths += [base / path_in(base, name) for _, (name,) in cells]
        else:
            paths.append(path)
    if not paths:
        raise ValueError(f"no files in {', '.join(map(str, given))}")
    refuse_unwritable(map(str, paths))
    return paths
