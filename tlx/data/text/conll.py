"""Sentences whose words have tags, in files of columns, as CoNLL's shared tasks give them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Unpack

from tlx.base.ranges import Range
from tlx.data import split_files, split_names
from tlx.data.draw import Dividing, Draw, Portion
from tlx.data.items import Pool
from tlx.data.listed import refuse_lines
from tlx.data.spelling import alike, name_key, told_apart
from tlx.data.splits import Labels, Splits
from tlx.data.text import column_files, columns, faulty_tags
from tlx.data.text.columns import Columns, Format
from tlx.data.text.texts import from_texts, text_pool
from tlx.methods import tags
from tlx.methods.tags import Scheme

MODALITY = "text"
PATHS = {
    "root": "folder",
    "train": "file below root",
    "val": "file below root",
    "test": "file below root",
    "extra": "file below root",
}
FINDER = "tlx.data.text.column_files"
"""Finds files of usual names."""


def conll(
    *,
    root: str | None = None,
    train: str | None = None,
    val: str | None = None,
    test: str | None = None,
    extra: dict[str, str] | None = None,
    word_column: Annotated[int, Range()] = 0,
    tag_column: Annotated[int, Range()] = -1,
    separator: str | None = None,
    scheme: Literal["auto", "iob1", "iob2", "bioes", "bmes", "bilou"] = "auto",
    on_fault: Literal["scorer", "error"] = "scorer",
    encoding: str = "utf-8",
    val_fraction: Portion = 0.15,
    test_fraction: Portion = 0.15,
    length_buckets: bool = True,
    **draw: Unpack[Dividing],
) -> Splits:
    """Files of one word a line, with an empty line after each sentence; tags become IOB2.

    Lines that begin with `-DOCSTART-`, and comments, which begin with `# `, are left out. Ids are
    a file's split and the line of a sentence's first word. The tags are those of the whole
    training file.

    Args:
        root: folder of the files; without it, paths are as they stand.
        train: file, below root or absolute; by default one of usual name below root.
        val: likewise; split off train where there is none, and for an empty name.
        test: likewise.
        extra: names of further evaluation sets -> their files.
        word_column: from 0; negative ones count from the last.
        tag_column: likewise.
        separator: between columns: `tab`, `blank`, or other text; null: any blanks and tabs.
        scheme: of the tags; `auto`: the one that the fewest words contradict.
        on_fault: of tags that cannot follow the one before: `scorer` reads them as the CoNLL
            scorer does, and lists them in the record; `error` refuses them.
        encoding: of the files.
        val_fraction: share of the training sentences for validation, where that is split off.
        test_fraction: share of all sentences for the test, where that is split off.
        length_buckets: whether training batches are made of sentences of like length.
        draw: see `Draw`.

    Raises:
        ValueError: files are missing or wrong (all lines are listed), or evaluation has tags that
            training lacks.
    """
    division = Draw(val_fraction=val_fraction, test_fraction=test_fraction, **draw)
    form = Format(word_column, tag_column, separator, encoding)
    if scheme not in ("auto", *tags.SCHEMES):
        raise ValueError(f"dataset.scheme={scheme!r}; give auto, {', '.join(tags.SCHEMES)}")
    faulty_tags.check_on_fault(on_fault)
    paths = _paths(root, {"train": train, "val": val, "test": test}, extra or {})
    files = {split: columns.read(path, form) for split, path in paths.items()}
    used = columns.scheme_of(list(files.values())) if scheme == "auto" else scheme
    problems = [
        problem
        for file in files.values()
        for problem in (*file.problems, *faulty_tags.problems(file, used, on_fault=on_fault))
    ]
    refuse_lines(problems, f"problems with the data ({len(problems)})")
    twice = list(_alike(files))
    refuse_lines(twice, f"problems with the data ({len(twice)})")
    labels, pools = _pools(files, used)
    notes = {
        "scheme": used,
        "files": {split: path.name for split, path in paths.items()},
        **faulty_tags.notes(files, used),
        **_unused(root, paths),
    }
    return from_texts(pools, labels, draw=division, length_buckets=length_buckets, notes=notes)


def _paths(
    root: str | None, given: Mapping[str, str | None], extra: Mapping[str, str]
) -> dict[str, Path]:
    """The file of each split that there is.

    Raises:
        ValueError: there is no training file, or several files could be one split's.
    """
    split_names.check_extra(extra)
    base = Path(root or "").expanduser()
    further = {split: base / Path(name).expanduser() for split, name in extra.items()}
    found = {s: base / Path(name).expanduser() for s, name in given.items() if name}
    if root is not None and base.is_dir():
        wanted = [split for split, name in given.items() if name is None]
        used = [*found.values(), *further.values()]
        for split in wanted:  # train first: without it, nothing is said of the others
            if split == "train" or "train" in found:
                found |= column_files.find(base, [split], used=used)
    if "train" not in found:
        where = f"{base} has none of a usual name" if root else "give it, or dataset.root"
        there = column_files.candidates(base) if root else ""
        raise ValueError(
            f"dataset.train names no file: {where}, as train.txt or train.conll"
            f"{f'; there are {there}' if there else ''}"
        )
    return {**{split: found[split] for split in given if split in found}, **further}


def _unused(root: str | None, paths: Mapping[str, Path]) -> dict[str, list[str]]:
    """Notes on what lies beside the files."""
    base = paths["train"].parent
    if root is not None and base.samefile(Path(root).expanduser()):
        return split_names.unused(base, split_files.unused(base, list(paths.values())))
    names = {path.name for path in paths.values()}
    beside = [name for name in split_names.beside(paths["train"]) if name not in names]
    return split_names.unused(base, beside, hint="; name it by dataset.val or dataset.test")


def _alike(files: Mapping[str, Columns]) -> Iterator[str]:
    """Tags that look the same in two spellings, with the places of both."""
    places: dict[str, str] = {}
    for file in files.values():
        for sentence in file.sentences:
            for line, tag in zip(sentence.lines, sentence.tags, strict=True):
                places.setdefault(tag, f"{file.path}:{line}")
    for group in alike(places, key=name_key).values():
        where = ", ".join(places[tag] for tag in group)
        yield f"{where}: tags {told_apart(group)} look the same; write them in one way"


def _pools(files: Mapping[str, Columns], scheme: Scheme) -> tuple[Labels, dict[str, Pool]]:
    """The labels of the training file, and the sentences of all files.

    Raises:
        ValueError: evaluation has tags that training lacks.
    """
    held = {
        split: [
            tags.converted(s.tags, scheme=scheme, to="iob2", strict=False) for s in file.sentences
        ]
        for split, file in files.items()
    }
    trained = {tag for row in held["train"] for tag in row} - {"O"}
    names = ("O", *sorted(trained, key=lambda tag: (tag.partition("-")[2], tag)))
    lacking = []
    for split, rows in held.items():
        counts = Counter(tag for row in rows for tag in row if tag not in names)
        lacking += [
            f"{files[split].path}: {count} words have {tag!r}, which no word of train has"
            for tag, count in sorted(counts.items())
        ]
    refuse_lines(lacking, f"problems with the data ({len(lacking)})")
    place = {name: index for index, name in enumerate(names)}
    pools = {}
    for split, file in files.items():
        pools[split] = text_pool(
            [f"{split}/{sentence.lines[0]}" for sentence in file.sentences],
            [list(sentence.words) for sentence in file.sentences],
            [tuple(place[tag] for tag in row) for row in held[split]],
        )
    return Labels("tags", names), pools
