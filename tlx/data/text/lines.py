"""Texts without labels, for language models: lines, files of a folder, one long text."""

from pathlib import Path
from typing import Annotated, Literal, Unpack

from tlx.base.ranges import Range
from tlx.data import split_folders, split_names
from tlx.data.decoding import check_on_empty, decoded, lines_of, refuse_empty
from tlx.data.divide import is_whole
from tlx.data.draw import Dividing, Draw, Portion
from tlx.data.items import Pool
from tlx.data.listed import Listed
from tlx.data.splits import SOURCE, Labels, Splits
from tlx.data.text.files import TextFiles
from tlx.data.text.texts import from_texts, text_pool

MODALITY = "text"
PATHS = {
    "text_lines": {
        "path": "file or folder",
        "val": "file or folder",
        "test": "file or folder",
        "source_text": "file or folder",
    },
    "text_file": {"path": "file", "source_text": "file"},
}
EXTRA = {
    "text_lines": {"source_text": ["source", "source_before"]},
    "text_file": {"source_text": ["source", "source_before"]},
}
"""Function to the evaluation sets that it makes where a key is given."""
UNLABELLED = Labels("text", ())
NEAR = 2000
"""Characters within which a cut looks for the end of a line."""


def text_lines(
    *,
    path: str,
    val: str | None = None,
    test: str | None = None,
    source_text: str | None = None,
    ending: str | None = ".txt",
    encoding: str = "utf-8",
    on_empty: Literal["error", "skip"] = "skip",
    val_fraction: Portion = 0.15,
    test_fraction: Portion = 0.15,
    length_buckets: bool = True,
    **draw: Unpack[Dividing],
) -> Splits:
    """Documents: the lines of a file, or the files of a folder at any depth.

    Ids are file and line, or paths below the folder.

    Args:
        path: of the training documents.
        val: of others to validate on; None: split off.
        test: of others to test on; None: split off.
        source_text: of others that the network was trained on before, to be evaluated before and
            after training as `source`; None: nothing is.
        ending: of files in a folder that are texts; None: all files are.
        encoding: of the files.
        on_empty: `skip` leaves out what has no text; `error` lists it.
        val_fraction: share of the training documents for validation, where that is split off.
        test_fraction: share of all documents for the test, where that is split off.
        length_buckets: whether training batches are made of texts of like length.
        draw: see `Draw`.

    Raises:
        ValueError: a file or folder is missing, or files are bad (all are listed).
    """
    check_on_empty(on_empty)
    places = {"path": path, "val": val, "test": test, "source_text": source_text}
    splits = {"path": "train", "source_text": SOURCE}
    pools: dict[str, Pool] = {}
    empty: list[str] = []
    for key, name in places.items():
        if name is not None:
            pool, without = _documents(key, Path(name).expanduser(), ending, encoding, on_empty)
            pools[splits.get(key, key)] = pool
            empty += without
    return from_texts(
        pools,
        UNLABELLED,
        draw=Draw(val_fraction=val_fraction, test_fraction=test_fraction, **draw),
        length_buckets=length_buckets,
        notes={**({"empty": len(empty)} if empty else {}), **_beside(path, val, test)},
        source=None if source_text is None else SOURCE,
    )


def _beside(path: str, *others: str | None) -> dict[str, list[str]]:
    """Notes on what lies beside training documents, is called as val or test, and is not used."""
    place = Path(path).expanduser()
    used = {Path(name).expanduser().resolve() for name in others if name is not None}
    names = [n for n in split_names.beside(place) if (place.parent / n).resolve() not in used]
    return split_names.unused(place.parent, names, hint="; dataset.val and dataset.test take them")


def _documents(
    key: str, place: Path, ending: str | None, encoding: str, on_empty: Literal["error", "skip"]
) -> tuple[Pool, list[str]]:
    """Documents, and the ids of those without text."""
    if place.is_dir():
        if key == "path":
            _check_undivided(place, ending)
        paths = sorted(
            path
            for path in place.rglob("*")
            if path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(place).parts)
            and (ending is None or path.suffix.lower() == ending.lower())
        )
        if not paths:
            raise ValueError(
                f"dataset.{key}={str(place)!r} holds no file that ends in {ending}; set "
                "dataset.ending, to null for all"
            )
        ids = [path.relative_to(place).as_posix() for path in paths]
        listed = {"train": Listed(ids, paths, [None] * len(ids))}
        pools, left_out = TextFiles(encoding, on_empty).read(listed)
        return pools["train"], left_out.get("empty", [])
    lines = lines_of(_whole(key, place, encoding))
    named = [(f"{place.name}:{number}", line.strip()) for number, line in enumerate(lines, 1)]
    empty = [name for name, line in named if not line]
    if on_empty == "error":  # blank lines between paragraphs deserve no warning
        refuse_empty(empty, [], on_empty=on_empty, total=len(named), noun="line")
    full = [(name, line) for name, line in named if line]
    return text_pool([n for n, _ in full], [line for _, line in full], [None] * len(full)), empty


def _check_undivided(folder: Path, ending: str | None) -> None:
    """Raises a ValueError where a folder of documents holds splits, all of which would train."""
    names = {
        path.name: split_names.stem_of(path.name)
        for path in split_folders.visible(folder)
        if path.is_dir() or ending is None or path.suffix.lower() == ending.lower()
    }
    read_as = split_names.readings(names.values())
    parts = {
        name: read_as[stem].splits[0]
        for name, stem in names.items()
        if stem in read_as and read_as[stem].grade != "maybe"
    }
    if "train" in parts.values() and len(set(parts.values())) > 1:
        keys = {"train": "path", "val": "val", "test": "test"}
        lines = " ".join(f"dataset.{keys[split]}={folder / n}" for n, split in parts.items())
        raise ValueError(
            f"dataset.path={str(folder)!r} holds splits ({', '.join(parts)}), and would train on "
            f"all of them; give {lines}"
        )


def text_file(
    *,
    path: str,
    source_text: str | None = None,
    val_fraction: Portion = 0.1,
    test_fraction: Portion = 0.1,
    fraction: Annotated[float | None, Range(above=0, most=1)] = None,
    encoding: str = "utf-8",
    length_buckets: bool = False,
) -> Splits:
    """One text, cut in order: its beginning trains, its end tests, what is before that validates.

    Cuts are made where a line ends, if one does nearby, and nothing is left out between.

    Args:
        path: the file.
        source_text: a file with text of what the network was trained on before, to be evaluated
            whole before and after training as `source`; None: nothing is.
        val_fraction: share of the text for validation.
        test_fraction: share of the text for the test.
        fraction: of the training text that is kept, from its beginning.
        encoding: of the file.
        length_buckets: whether training batches are made of windows of like length.

    Raises:
        ValueError: the file cannot be read, or is too short.
    """
    Draw(
        val_fraction=val_fraction, test_fraction=test_fraction, fraction=fraction
    )  # names what is out of range
    if val_fraction + test_fraction >= 1:
        raise ValueError(
            f"dataset.val_fraction={val_fraction} and dataset.test_fraction={test_fraction} leave "
            "nothing to train on; lower them"
        )
    place = Path(path).expanduser()
    text = _whole("path", place, encoding)
    end = _cut(text, 1 - test_fraction)
    middle = _cut(text, 1 - test_fraction - val_fraction)
    train = text[: _cut(text[:middle], fraction)] if fraction else text[:middle]
    parts = {"train": train, "val": text[middle:end], "test": text[end:]}
    if is_whole():
        parts = {"train": text}
    if not all(part.strip() for part in parts.values()):
        raise ValueError(f"{place} is too short to be cut in three: {len(text)} characters")
    names = {name: f"{place.name}/{name}" for name in parts}
    if source_text is not None:
        before = Path(source_text).expanduser()
        parts[SOURCE], names[SOURCE] = _whole("source_text", before, encoding), before.name
    return from_texts(
        {name: text_pool([names[name]], [part], [None]) for name, part in parts.items()},
        UNLABELLED,
        draw=Draw(),
        length_buckets=length_buckets,
        notes={"characters": {name: len(part) for name, part in parts.items()}},
        source=None if source_text is None else SOURCE,
    )


def _cut(text: str, share: float) -> int:
    r"""A position at a share of a text; after the next end of a line, if that is near.

    >>> _cut("ab\ncd\nef\n", 0.5)
    6
    """
    place = round(share * len(text))
    line = text.find("\n", place, min(place + NEAR, len(text) - 1))
    return place if line < 0 else line + 1


def _whole(key: str, place: Path, encoding: str) -> str:
    if not place.is_file():
        kind = "a folder" if place.is_dir() else "no file"
        raise ValueError(f"dataset.{key}={str(place)!r} is {kind}; give a file that exists")
    return decoded(place, encoding)
