"""Image datasets from the Hugging Face hub, or as `datasets` saved them."""

import difflib
import hashlib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Unpack, final

from PIL import Image

from tlx.data import split_names
from tlx.data.draw import Dividing, Draw, Portion
from tlx.data.images.library import LibrarySplit, from_library
from tlx.data.images.read import BadImage, load_image
from tlx.data.spelling import is_missing, refuse_alike
from tlx.data.splits import Labels, Splits

MODALITY = "image"
PATHS = {"path": "folder or name", "name": "word", "revision": "word", "train": "word"}


@final
@dataclass(frozen=True)
class HubImages:
    """The images of a column, decoded by us: `items` gives each as its bytes or its path."""

    items: Any
    column: str

    def __call__(self, place: int) -> Image.Image:
        """The image at a place.

        Raises:
            BadImage: it cannot be read.
        """
        found = self.items[place][self.column]
        if not found or (not found.get("bytes") and not found.get("path")):
            raise BadImage("is missing")
        return load_image(found.get("bytes") or found["path"])

    def content(self, place: int) -> str:
        """A hash of the bytes of the image at a place; empty where it is missing."""
        found = self.items[place][self.column] or {}
        path = found.get("path")
        data = found.get("bytes") or (Path(path).read_bytes() if path else b"")
        if not data:
            return ""
        return hashlib.blake2b(data, digest_size=16).hexdigest()


def huggingface(
    *,
    path: str,
    name: str | None = None,
    train: str = "train",
    val: str | None = None,
    test: str | None = None,
    image_column: str = "image",
    label_column: str = "label",
    revision: str | None = None,
    val_fraction: Portion = 0.1,
    test_fraction: Portion = 0.2,
    flips: bool = True,
    **draw: Unpack[Dividing],
) -> Splits:
    """A dataset from the hub or from a folder; code of the dataset's own is never run.

    One class an image, or a list of classes, or a number. The fingerprint rests on a sample of
    the pixels.

    Args:
        path: `owner/name` on the hub, or a folder that `save_to_disk` wrote.
        name: configuration of the dataset, where it has several.
        train: name of the split.
        val: likewise; None takes `validation`, `valid`, `val`, `dev` or another usual name, else
            splits train, and so does an empty name.
        test: likewise; None takes `test` or another usual name.
        image_column: column of images.
        label_column: column of labels.
        revision: commit or tag on the hub; None takes the newest, which may change.
        val_fraction: share of the training images for validation, where that is split off.
        test_fraction: share of all images for the test, where that is split off.
        flips: whether a mirrored image keeps its label.
        draw: see `Draw`; `drop_duplicates` decodes every image.

    Raises:
        ValueError: `datasets` is not installed, or the splits or columns are not there.
    """
    found, notes = _chosen(_opened(path, name, revision), path, train, val, test)
    _check_columns(found["train"], path, image_column, label_column)
    labels, targets = _labels(found, label_column)
    images = {
        s: HubImages(_undecoded(each, image_column), image_column) for s, each in found.items()
    }
    return from_library(
        f"{path}/{name}" if name else path,
        {
            split: LibrarySplit(targets[split], items, items.content)
            for split, items in images.items()
        },
        labels,
        draw=Draw(val_fraction=val_fraction, test_fraction=test_fraction, **draw),
        flips=flips,
        notes=notes,
    )


def _library() -> ModuleType:
    try:
        return importlib.import_module("datasets")
    except ImportError:
        raise ValueError(
            "dataset=huggingface needs the package `datasets`: pip install datasets"
        ) from None


def _opened(path: str, name: str | None, revision: str | None) -> dict[str, Any]:
    """All splits by name; a dataset that is not divided is `train`."""
    datasets = _library()
    folder = Path(path).expanduser()
    saved = ("dataset_dict.json", "state.json")
    if any((folder / file).is_file() for file in saved):
        made = datasets.load_from_disk(str(folder))
    else:
        try:
            made = datasets.load_dataset(path, name, revision=revision)
        except (FileNotFoundError, ConnectionError, ValueError, RuntimeError) as error:
            raise ValueError(f"dataset.path={path!r} cannot be loaded: {error}") from error
    return dict(made) if isinstance(made, datasets.DatasetDict) else {"train": made}


def _chosen(
    made: Mapping[str, Any], path: str, train: str, val: str | None, test: str | None
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The splits that are used, and notes on others.

    Raises:
        ValueError: a split is missing, or several may be meant.
    """
    named = {"train": train, "val": val, "test": test}
    found = {split: name for split, name in named.items() if name is not None and name in made}
    for split, name in named.items():
        first = (usual for usual in split_names.FIRST[split] if usual in made)
        if name is None and (usual := next(first, None)) is not None:
            found[split] = usual
        elif name and split not in found and (split, name) != ("train", "train"):
            raise ValueError(
                f"dataset.{split}={name!r} is no split of {path}; there are {', '.join(made)}"
            )
    wanted = [s for s, name in named.items() if name in (None, s) and s not in found]
    free = {name: name for name in made if name not in found.values()}
    found |= split_names.find(free, wanted, place=path, off="''")
    if "train" not in found:
        raise ValueError(
            f"dataset.train={train!r} is no split of {path}; there are {', '.join(made)}"
        )
    unused = [name for name in made if name not in found.values()]
    chosen = {split: made[found[split]] for split in named if split in found}
    return chosen, split_names.unused(path, unused)


def _check_columns(items: Any, path: str, image_column: str, label_column: str) -> None:
    columns = list(items.column_names)
    for argument, name in (("image_column", image_column), ("label_column", label_column)):
        if name not in columns:
            near = difflib.get_close_matches(name, columns, 1, 0.5)
            raise ValueError(
                f"dataset.{argument}={name!r} is no column of {path}"
                f"{f'; did you mean {near[0]!r}?' if near else ''}; there are {', '.join(columns)}"
            )
    if not isinstance(items.features[image_column], _library().Image):
        raise ValueError(
            f"dataset.image_column={image_column!r} of {path} holds no images but "
            f"{items.features[image_column]}"
        )


def _undecoded(items: Any, column: str) -> Any:
    plain = items.with_format(None).select_columns([column])
    return plain.cast_column(column, _library().Image(decode=False))


def _labels(found: Mapping[str, Any], column: str) -> tuple[Labels, Mapping[str, Sequence[object]]]:
    """Labels and targets, by what the column is said to hold.

    Raises:
        ValueError: it holds something else, or nothing in some rows.
    """
    feature = found["train"].features[column]
    values = {split: list(items.with_format(None)[column]) for split, items in found.items()}
    for split, given in values.items():
        # words such as NA may be classes here: no key could say so
        if (missing := sum(is_missing(value, ("nan", "NaN")) for value in given)) > 0:
            raise ValueError(f"dataset.label_column={column!r}: {missing} empty in {split}")
    inner = getattr(feature, "feature", None)
    if inner is not None and hasattr(inner, "names"):
        names = tuple(inner.names)
        width = range(len(names))
        for split, given in values.items():
            if strange := sum(not {*held} <= {*width} for held in given):
                raise ValueError(
                    f"dataset.label_column={column!r}: {strange} rows of {split} have labels that "
                    f"are none of the {len(names)} classes"
                )
        return Labels("multi", names), {
            split: [tuple(float(i in held) for i in width) for held in given]
            for split, given in values.items()
        }
    if hasattr(feature, "names"):
        return Labels("single", tuple(feature.names)), values
    kind = str(getattr(feature, "dtype", feature))
    if kind.startswith("float"):
        return Labels("real", (column,)), {s: [(float(v),) for v in g] for s, g in values.items()}
    if kind.startswith(("int", "uint", "string", "large_string", "bool")):
        words = [str(value) for given in values.values() for value in given]
        refuse_alike(words, f"dataset.label_column={column!r}")
        return _from_values(values)
    raise ValueError(f"dataset.label_column={column!r} holds {feature}; give a column of classes")


def _from_values(values: Mapping[str, Sequence[Any]]) -> tuple[Labels, dict[str, list[int]]]:
    seen = sorted({value for given in values.values() for value in given})
    places = {value: i for i, value in enumerate(seen)}
    targets = {split: [places[value] for value in given] for split, given in values.items()}
    return Labels("single", tuple(str(value) for value in seen)), targets
