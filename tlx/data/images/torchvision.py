"""Classification sets that torchvision knows by name."""

import difflib
import hashlib
import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Unpack, final

import torchvision as vision
from PIL import Image

from tlx.data.draw import Dividing, Draw, Portion
from tlx.data.images.library import LibrarySplit, as_image, from_library, named_classes, sample
from tlx.data.images.read import to_rgb
from tlx.data.split_names import TORCHVISION
from tlx.data.splits import Labels, Splits

MODALITY = "image"
PATHS = {"root": "folder of downloads", "name": "word", "kwargs": "word"}

SETS = (
    *("CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "KMNIST", "EMNIST", "QMNIST", "USPS"),
    *("SVHN", "STL10", "SEMEION", "Omniglot", "SUN397", "Flowers102", "ImageNet", "Imagenette"),
    *("Caltech101", "Caltech256", "Places365", "INaturalist", "Food101", "DTD", "FER2013"),
    *("GTSRB", "CLEVRClassification", "OxfordIIITPet", "PCAM", "Country211", "FGVCAircraft"),
    *("EuroSAT", "RenderedSST2", "StanfordCars", "FakeData"),
)
"""Those with one class an image."""
FILES = ("samples", "_samples", "_image_files", "_images")
"""Attributes in which sets of files list them, in the order of their items."""
OURS = frozenset({"root", "train", "split", "download", "transform", "target_transform"})


class Indexed(Protocol):
    """A set as torchvision gives it."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> tuple[object, object]:
        """Image and target."""


@final
@dataclass(frozen=True)
class SetImages:
    """The images of one of torchvision's sets, upright and in RGB."""

    items: Indexed

    def __call__(self, place: int) -> Image.Image:
        """The image at a place."""
        return to_rgb(as_image(self.items[place][0]))

    def content(self, place: int) -> str:
        """A hash of the name, size and time of the file at a place; empty where there is none."""
        for attribute in FILES:
            listed = getattr(self.items, attribute, None)
            if not isinstance(listed, list) or len(listed) != len(self.items):
                continue
            path = listed[place][0] if isinstance(listed[place], tuple) else listed[place]
            if isinstance(path, str | Path) and Path(path).is_file():
                found = Path(path).stat()
                stamp = f"{Path(path).absolute()}-{found.st_size}-{found.st_mtime_ns}"
                told = f"{type(self.items).__qualname__}-{stamp}"
                return hashlib.blake2b(os.fsencode(told), digest_size=16).hexdigest()
        return ""


def torchvision(
    *,
    name: str,
    root: str = "data",
    download: bool = True,
    kwargs: dict[str, object] | None = None,
    val_fraction: Portion = 0.1,
    test_fraction: Portion = 0.2,
    flips: bool = True,
    **draw: Unpack[Dividing],
) -> Splits:
    """A set with its own train, val and test where it has them; others are split off train.

    A set with a validation split but no test split (ImageNet, Imagenette, Places365) is tested on
    the former, as is usual. The fingerprint rests on a sample of the pixels.

    Args:
        name: of the class in torchvision.datasets, as `CIFAR10`.
        root: folder of the downloaded files.
        download: whether they are fetched where they are missing.
        kwargs: further arguments of the class, as `partition: 2` for DTD.
        val_fraction: share of the training images for validation, where that is split off.
        test_fraction: share of all images for the test, where that is split off.
        flips: whether a mirrored image keeps its label.
        draw: see `Draw`; `drop_duplicates` decodes every image.

    Raises:
        ValueError: no such set, wrong arguments, or files that are missing.
    """
    if name not in SETS:
        lower = {known.lower(): known for known in SETS}
        near = difflib.get_close_matches(name.lower(), lower, 1, 0.5)
        guess = f"; did you mean {lower[near[0]]}?" if near else ""
        raise ValueError(f"dataset.name={name!r}{guess} There are {', '.join(SETS)}")
    given = kwargs or {}
    found = _opened(name, Path(root).expanduser(), download=download, given=given)
    if "val" in found and "test" not in found:
        found["test"] = found.pop("val")
    targets = {split: _targets(name, items) for split, items in found.items()}
    names = named_classes(targets, _names(found["train"]))
    return from_library(
        name,
        {
            split: LibrarySplit(targets[split], SetImages(items), SetImages(items).content)
            for split, items in found.items()
        },
        Labels("single", names),
        draw=Draw(val_fraction=val_fraction, test_fraction=test_fraction, **draw),
        flips=flips,
    )


def _opened(
    name: str, root: Path, *, download: bool, given: Mapping[str, object]
) -> dict[str, Indexed]:
    """The set's splits as torchvision gives them.

    Raises:
        ValueError: an argument is unknown, or the files are missing.
    """
    made = getattr(vision.datasets, name)
    allowed, takes_any = _parameters(made)
    for key in given:
        if key in OURS - {"split"} or (key not in allowed and not takes_any):
            free = sorted(allowed - OURS)
            raise ValueError(
                f"dataset.kwargs: {name} takes no {key!r} here; it takes "
                f"{', '.join(free) or 'none'}"
            )
    common: dict[str, object] = dict(given)
    if "root" in allowed:
        common["root"] = str(root)
    if "download" in allowed:
        common["download"] = download
    if "split" in allowed and "split" not in given:
        return _by_split(made, common)
    if "train" in allowed:
        return {
            split: _made(made, {**common, "train": split == "train"}) for split in ("train", "test")
        }
    return {"train": _made(made, common)}


def _parameters(made: type) -> tuple[frozenset[str], bool]:
    """Names of a class's parameters, those of its parents where it passes them on."""
    names: set[str] = set()
    for parent in inspect.getmro(made):
        if "__init__" not in vars(parent):
            continue
        found = inspect.signature(vars(parent)["__init__"]).parameters.values()
        names |= {p.name for p in found if p.kind is not p.VAR_KEYWORD} - {"self"}
        if all(p.kind is not p.VAR_KEYWORD for p in found):
            return frozenset(names), False
    return frozenset(names), True


def _by_split(made: type, common: Mapping[str, object]) -> dict[str, Indexed]:
    found = {}
    for split, values in TORCHVISION.items():
        for value in values:
            try:
                found[split] = _made(made, {**common, "split": value})
            except _UnknownSplit:
                continue
            break
    if "train" not in found:
        raise ValueError(
            f"{made.__name__} has no split {' or '.join(TORCHVISION['train'])}; set "
            "dataset.kwargs.split to one that is then divided"
        )
    return found


class _UnknownSplit(ValueError):
    """A set has no split of this name."""


def _made(made: type, arguments: Mapping[str, object]) -> Indexed:
    try:
        items: Indexed = made(**arguments)
        return items
    except ValueError as error:
        if "for argument split" in str(error):
            raise _UnknownSplit(str(error)) from None
        raise
    except (RuntimeError, FileNotFoundError) as error:
        raise ValueError(
            f"{made.__name__} cannot be opened: {error}. Set dataset.root to the folder that holds "
            "it, or dataset.download=true"
        ) from error


def _names(items: Indexed) -> list[str]:
    found = getattr(items, "classes", None) or getattr(items, "categories", None) or ()
    return [entry if isinstance(entry, str) else " ".join(entry) for entry in found]


def _targets(name: str, items: Indexed) -> list[int]:
    """Class indices, without decoding images where the set knows them; checked by a sample.

    Raises:
        ValueError: there is not one class an image.
    """
    for attribute in ("targets", "labels", "_labels", "y"):
        found = getattr(items, attribute, None)
        if found is not None and len(found) == len(items):
            targets = _whole(found)
            if targets and _agree(items, targets):
                return targets
    pairs = getattr(items, "_samples", None) or getattr(items, "samples", None)
    if isinstance(pairs, list) and len(pairs) == len(items):
        targets = _whole([pair[1] for pair in pairs])
        if targets and _agree(items, targets):
            return targets
    targets = _whole([items[i][1] for i in range(len(items))])
    if not targets:
        raise ValueError(f"dataset.name={name}: its targets are not one class an image")
    return targets


def _agree(items: Indexed, targets: Sequence[int]) -> bool:
    return all(_whole([items[i][1]]) == [targets[i]] for i in sample(len(items))[::8])


def _whole(values: Sequence[object]) -> list[int]:
    """The values as integers; empty if any is none."""
    found = [value.item() if hasattr(value, "item") else value for value in values]
    whole = [int(v) for v in found if isinstance(v, int | bool)]
    return whole if len(whole) == len(found) else []
