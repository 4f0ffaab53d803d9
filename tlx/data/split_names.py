"""What splits are called: by folders, tables, columns and libraries. Standard library only.

A name is read word by word, in any case: `Training`, `test_set` and `val2017` are splits,
`test_matched` may be one, and `contest` is none. All sources ask here, so that none takes for a
class, or leaves out, what another takes for a split.
"""

import difflib
import logging
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from tlx.base.names import alike, fault

LOG = logging.getLogger(__name__)
SPLITS = ("train", "val", "test")

Grade = Literal["sure", "short", "maybe"]
"""`short` words mean other things too: `valid` is a class beside `invalid`, `tr` is Turkish."""

WORDS: Mapping[str, tuple[Grade, tuple[str, ...]]] = {
    **dict.fromkeys(("train", "training", "trn"), ("sure", ("train",))),
    **dict.fromkeys(("val", "validation", "validate", "validating"), ("sure", ("val",))),
    **dict.fromkeys(("test", "tests", "testing", "tst"), ("sure", ("test",))),
    "tr": ("short", ("train",)),
    **dict.fromkeys(("valid", "va", "dev", "devel", "development"), ("short", ("val",))),
    "te": ("short", ("test",)),
    "trainval": ("maybe", ("train", "val")),
    # some call what selection looks at so, and some what is looked at once
    **dict.fromkeys(("eval", "evaluation", "heldout", "holdout"), ("maybe", ("val", "test"))),
    **dict.fromkeys(("devtest", "testdev"), ("maybe", ("val", "test"))),
    **dict.fromkeys(("fold", "folds"), ("maybe", SPLITS)),
}
"""Word of a name -> the splits that it may mean."""
LONG = ("training", "validation", "testing", "evaluation")
"""Words that are known in spite of a slip of the pen."""
ALIKE = 0.86
ALONE = frozenset({"tr", "te", "va"})
"""Words that mean nothing beside others."""
FILLERS = frozenset(
    [
        *("set", "sets", "data", "dataset", "datasets", "split", "splits", "image", "images"),
        *("img", "imgs", "picture", "pictures", "pic", "pics", "photo", "photos", "text", "texts"),
        *("folder", "dir", "file", "files", "sample", "samples", "example", "examples", "seg"),
    ]
)
"""Words that say nothing of which split it is, and so do numbers."""
WHOLE: Mapping[str, str] = {
    **{
        f"{language}.{part}": split
        for language in ("eng", "deu", "esp", "ned")
        for part, split in (("train", "train"), ("testa", "val"), ("testb", "test"))
    },
    **{"wnut17train": "train", "emerging.dev": "val", "emerging.test": "test"},
    **{"genia4ertask1": "train", "genia4ereval1": "test"},
    **{"engtrain": "train", "engtest": "test"},
    **{"restauranttrain": "train", "restauranttest": "test"},
}
"""Whole names of files that CoNLL's, WNUT's and JNLPBA's shared tasks gave, and MIT's corpora."""
FIRST: Mapping[str, Sequence[str]] = {
    "train": ("train",),
    "val": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
"""Names of files, and of splits on the hub, that come before all other usual ones."""
COLUMNS = frozenset(
    ["split", "splits", "set", "subset", "partition", "usage", "phase", "dataset", "datasplit"]
)
"""Names of columns, in small letters, that say to which split a line belongs."""
FLAG = re.compile(r"is[\W_]*|(in|for)[\W_]+", re.IGNORECASE)
"""Before the name of a split, in that of a column which says of each line whether it is in it."""
FLAGS = frozenset(map(frozenset, (("0", "1"), ("false", "true"), ("no", "yes"), ("n", "y"))))
"""Cells of such a column, in small letters."""
TORCHVISION: Mapping[str, Sequence[str]] = {
    "train": ("train", "trainval", "train-standard"),
    "val": ("val", "valid"),
    "test": ("test",),
}
"""Values of torchvision's argument `split`, in the order in which they are tried."""
LONGEST_NAME = 100
MAX_SHOWN = 8


@dataclass(frozen=True)
class Reading:
    """What a name may mean.

    Attributes:
        splits: that it may be; one, unless the grade is `maybe`.
        grade: how sure that is.
        rest: words of it that are no split's.
    """

    splits: tuple[str, ...]
    grade: Grade
    rest: frozenset[str] = frozenset()


@lru_cache(maxsize=4096)
def read(name: str) -> Reading | None:
    """What a name may mean; None where it is no split's.

    >>> [read(name).splits for name in ("Training_Set", "val2017", "DEV")]
    [('train',), ('val',), ('val',)]
    >>> read("test_matched").grade, read("contest"), read("Tr").grade
    ('maybe', None, 'short')
    """
    if len(name) > LONGEST_NAME:  # a text
        return None
    plain = unicodedata.normalize("NFKC", name).strip()
    if plain.casefold() in WHOLE:
        return Reading((WHOLE[plain.casefold()],), "sure")
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", plain).casefold()
    words = {_without_filler(word) for word in re.findall(r"[^\W\d_]+", parted)} - FILLERS
    if {"held", "out"} <= words or {"hold", "out"} <= words:
        words = words - {"held", "hold", "out"} | {"heldout"}
    slips = {word: right for word in words - {*WORDS} if (right := _slip_of(word)) is not None}
    words = words - {*slips} | {*slips.values()}
    rest = frozenset(
        word for word in words if word not in WORDS or (word in ALONE and words - {word})
    )
    meant = [WORDS[word] for word in sorted(words - rest)]
    splits = tuple(split for split in SPLITS if any(split in each for _, each in meant))
    if not splits:
        return None
    if rest or slips or len(splits) > 1:
        return Reading(splits, "maybe", rest)
    return Reading(splits, min((grade for grade, _ in meant), key=("short", "sure").index))


def _without_filler(word: str) -> str:
    """`trainset` and `testdata` without their second half."""
    halves = (word.removesuffix(end) for end in FILLERS if word.endswith(end))
    return next((half for half in halves if half in WORDS and half not in ALONE), word)


def _slip_of(word: str) -> str | None:
    """The long word that another one is a slip of the pen for: `validaton`."""
    near = difflib.get_close_matches(word, LONG, 1, ALIKE) if len(word) > 5 else []
    return near[0] if near and near[0][0] == word[0] else None


def readings(names: Iterable[str]) -> dict[str, Reading]:
    """What the names of one place may mean, those that mean nothing left out.

    What all have in common says nothing: `imdb_train` and `imdb_test` are as good as `train` and
    `test`.
    """
    found = {name: reading for name in names if (reading := read(name)) is not None}
    whole = {reading.splits for reading in found.values()}
    rests = {reading.rest for reading in found.values()}
    if len(rests) == 1 and len(whole) > 1 and ("train",) in whole:
        return {
            name: replace(reading, grade="sure", rest=frozenset())
            if reading.rest and len(reading.splits) == 1
            else reading
            for name, reading in found.items()
        }
    return found


def find(
    stems: Mapping[str, str],
    wanted: Sequence[str],
    *,
    place: object,
    usual: Mapping[str, Sequence[str]] | None = None,
    off: str = "null",
) -> dict[str, str]:
    """Which entry of a place is which split, for the splits that no argument names.

    Args:
        stems: entries that no argument names -> what of each may name a split.
        wanted: the splits that are looked for.
        place: where, for messages.
        usual: names of each split that are taken before all others.
        off: what an argument says for a part of train to be split off.

    Raises:
        ValueError: several entries may be meant, or it is not sure that one is.
    """
    read_as = readings(stems.values())
    found: dict[str, str] = {}
    for split in wanted:
        tiers: list[list[str]] = [
            [entry for entry, stem in stems.items() if stem in (usual or {}).get(split, ())]
        ]
        for grade in ("sure", "short", "maybe"):
            fitting = {
                stem for stem, r in read_as.items() if split in r.splits and r.grade == grade
            }
            tiers.append([entry for entry, stem in stems.items() if stem in fitting])
        *clear, unsure = tiers
        chosen = next((tier for tier in clear if tier), [])
        if len(chosen) > 1:
            raise ValueError(
                f"dataset.{split}: {place} has {' and '.join(chosen[:MAX_SHOWN])}; give the one "
                f"that is meant, as dataset.{split}={chosen[0]}"
            )
        if chosen:
            found[split] = chosen[0]
        elif unsure and split != "train":
            raise ValueError(
                f"dataset.{split}: {place} has {', '.join(unsure[:MAX_SHOWN])}, and it is not sure "
                f"what for; dataset.{split}={unsure[0]} takes it, dataset.{split}={off} splits off "
                "a part of train"
            )
    return found


def split_of(cell: str, named: Mapping[str, str | None]) -> str | None:
    """The split that a cell of a split column means; None where it is none.

    Args:
        cell: what a line says.
        named: split -> what cells call it, None where it is not wanted. Where that is the split's
            own name, other spellings of it count too.

    >>> split_of("Validation", {"val": "val"}), split_of("dev", {"val": "validation"})
    ('val', None)
    """
    exact = next((split for split, name in named.items() if name == cell), None)
    reading = read(cell) if exact is None else None
    if reading is None or reading.grade == "maybe":
        return exact
    (split,) = reading.splits
    return split if named.get(split) == split else None


def split_column(
    columns: Mapping[str, Iterable[object]], *, but: Collection[str], place: object
) -> str | None:
    """The column that divides a table where no argument names one; None: none does.

    Args:
        columns: names -> cells.
        but: columns that are something else.
        place: the table, for messages.

    Raises:
        ValueError: a column holds names of splits, and its own name does not say that it is one,
            or it says of each line whether it is in one split.
    """
    if "split" in columns:
        return "split"
    for name, values in columns.items():
        if name in but:
            continue
        if (split := _flagged(name)) and _are_flags(values):
            raise ValueError(
                f"{place}: the column {name!r} says which lines are in {split}; write names of "
                "splits in its place, in a column 'split', to divide by it; "
                "dataset.split_column=null does not"
            )
        cells = _cells_of_splits(values)
        if cells is None:
            continue
        clear = all(reading.grade != "maybe" for reading in cells.values())
        if clear and re.sub(r"[\W_]+", "", name).casefold() in COLUMNS:
            return name
        raise ValueError(
            f"{place}: the column {name!r} holds names of splits ({', '.join(sorted(cells))}); "
            f"dataset.split_column={name!r} divides by it, dataset.split_column=null does not"
        )
    return None


def _flagged(name: str) -> str | None:
    """The split that a column may say of each line whether it is in it: of `is_test`, test."""
    reading = read(name[flag.end() :] if (flag := FLAG.match(name)) else name)
    if reading is None or reading.grade == "maybe":
        return None
    return reading.splits[0]


def _are_flags(values: Iterable[object]) -> bool:
    """Whether cells are yes and no, and nothing else."""
    there: set[str] = set()
    for value in values:
        there.add(str(value).strip().casefold().removesuffix(".0"))
        if len(there) > 2:
            return False
    return there in FLAGS


def _cells_of_splits(values: Iterable[object]) -> dict[str, Reading] | None:
    """What the cells of a column mean; None where one is no split's, or they do not divide."""
    found: dict[str, Reading] = {}
    for value in values:
        cell = "" if value is None else str(value).strip()
        if cell and cell not in found:
            reading = read(cell)
            if reading is None:
                return None
            found[cell] = reading
    splits = {split for reading in found.values() for split in reading.splits}
    return found if "train" in splits and len(splits) > 1 and len(found) > 1 else None


def beside(path: Path) -> list[str]:
    """What lies beside training data, is called as val or test, where that is called as train.

    >>> beside(Path("nowhere/train.csv"))
    []
    """
    if not path.exists():
        return []
    path = path.resolve()
    names = [p.name for p in sorted(path.parent.iterdir()) if not p.name.startswith(".")]
    read_as = readings([stem_of(name) for name in names])
    own = read_as.get(stem_of(path.name))
    if own is None or own.splits != ("train",) or own.grade == "maybe":
        return []
    return [
        name
        for name in names
        if (reading := read_as.get(stem_of(name))) and "train" not in reading.splits
    ]


def stem_of(name: str) -> str:
    """A file's name without its ending."""
    return name if name.casefold() in WHOLE else Path(name).stem


def unused(place: object, names: Sequence[str], *, hint: str = "") -> dict[str, list[str]]:
    """Notes for the record of what lies beside the data and is not used, with a warning."""
    if not names:
        return {}
    more = f", ... ({len(names)} in all)" if len(names) > MAX_SHOWN else ""
    LOG.warning("%s: not used: %s%s%s", place, ", ".join(names[:MAX_SHOWN]), more, hint)
    return {"unused": list(names)}


def check_extra(names: Iterable[str]) -> None:
    """Names of further evaluation sets, which become names of files and columns.

    Raises:
        ValueError: one is a split's, or no name of a file; or two would be one file.
    """
    texts = [str(name) for name in names]
    for name in texts:
        if name in SPLITS:
            raise ValueError(f"dataset.extra: {name!r} is a split already; use another name")
        if wrong := fault(name):
            raise ValueError(
                f"dataset.extra: {name!r} names files of the run, as predictions/NAME.csv, and "
                f"{wrong}; use a name like night_photos"
            )
    if both := alike([*SPLITS, *texts]):
        raise ValueError(
            f"dataset.extra: files of {both[0]!r} and {both[1]!r} are the same on some systems; "
            "rename one"
        )
