"""What is stated beside weights: mean and deviation of their images, and their network."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from timm.models import parse_model_name
from timm.models._hub import load_model_config_from_hf, load_model_config_from_path

from tlx.backbones.weights import files as weights
from tlx.backbones.weights.kinds import SAFETENSORS, kind_of
from tlx.base import bounds

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
USUAL = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")
OURS = (
    *("num_classes", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path"),
    *("features_only", "img_size", "in_chans", "drop_rate", "drop_path_rate"),
)
"""Arguments of timm's models that tlx sets itself."""


@dataclass(frozen=True)
class Stated:
    """What is stated beside weights.

    Attributes:
        place: that states it, for the log.
        mean: of each channel of images from 0 to 1; None where it is not stated.
        std: likewise.
        architecture: timm's name of the network; empty where it is not stated.
        arguments: of timm's model.
    """

    place: str = ""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    architecture: str = ""
    arguments: Mapping[str, object] = field(default_factory=dict)

    def arguments_of(self, architecture: str) -> dict[str, object]:
        """Arguments that shape a network of this architecture: none that tlx sets, no dropout.

        Dropout is of the training that made the weights, and is asked for anew.
        """
        if self.architecture not in ("", architecture):
            return {}
        return {
            key: value
            for key, value in self.arguments.items()
            if key not in OURS and "drop" not in key
        }


def is_sourced(name: str) -> bool:
    """Whether a name of timm stands for a folder or for a repository of the hub."""
    return name.startswith(("hf-hub:", "hf_hub:", "local-dir:"))


def folder_of(name: str) -> Path | None:
    """The folder that a name of timm stands for, if it stands for one."""
    source, _, place = name.partition(":")
    return Path(place) if source == "local-dir" else None


def weights_in(folder: Path) -> Path:
    """The weights file of a folder that timm loads.

    Raises:
        FileNotFoundError: there is none.
    """
    usual = [folder / name for name in USUAL]
    others = (path for end in weights.SUFFIXES for path in sorted(folder.glob(f"*{end}")))
    for path in (*usual, *others):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"backbone.name=local-dir:{folder}: there are no weights in the folder; put {USUAL[0]} "
        "there, or give backbone.init=none or a file"
    )


def of_name(name: str) -> Stated:
    """What the folder or the repository states that a name of timm stands for.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    source, place = parse_model_name(name)
    if source == "local-dir":
        cfg, architecture, arguments = load_model_config_from_path(place)
    else:
        with weights.hub_or_cache():
            cfg, architecture, arguments = load_model_config_from_hf(place)
    return Stated(
        place=name,
        mean=_values(cfg, "mean", name),
        std=_values(cfg, "std", name),
        architecture=architecture,
        arguments=dict(arguments or {}),
    )


def of_file(path: Path) -> Stated:
    """What a weights file states itself, else what the files beside it do; empty if nothing does.

    Known are a run's model.safetensors, metadata `mean` and `std` or `pretrained_cfg` as JSON, the
    config.json of timm's exports and of tlx's, and the preprocessor_config.json of transformers.

    Raises:
        ValueError: what is stated as a mean or a deviation is no list of numbers.
    """
    inside = _inside(path)
    if inside.mean is not None or inside.architecture or inside.arguments:
        return inside
    found = _timm_config(path.parent / CONFIG)
    if found.mean is None and found.std is None:
        images = _preprocessor(path.parent / PREPROCESSOR)
        if images.mean is not None or images.std is not None:
            return Stated(
                images.place, images.mean, images.std, found.architecture, found.arguments
            )
    return found


def _inside(path: Path) -> Stated:
    """Of the metadata of a safetensors file."""
    try:
        if kind_of(path) != SAFETENSORS:
            return Stated()
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError):
        return Stated()  # what is wrong with the file is said where its weights are read
    plain = {key: _parsed(text) for key, text in metadata.items()}
    run, trunk = plain.get("tlx"), plain.get("facts")
    if isinstance(run, dict):  # of a finished run
        spec, network = run.get("input_spec") or {}, run.get("network") or {}
        content = {**spec, "architecture": network.get("name")}
        return _of_config({**content, "model_args": network.get("kwargs")}, str(path))
    if isinstance(trunk, dict):
        plain["model_args"] = trunk.get("kwargs")
    return _of_config(plain, f"metadata of {path}")


def _timm_config(path: Path) -> Stated:
    content = _json(path)
    return _of_config(content, str(path)) if "architecture" in content else Stated()


def _of_config(content: Mapping[str, object], place: str) -> Stated:
    """Of a mapping in the form of timm's config.json."""
    inner = content.get("pretrained_cfg")
    cfg = {**content, **(inner if isinstance(inner, dict) else {})}
    arguments = content.get("model_args")
    if isinstance(arguments, dict):
        bounds.require_numbers(arguments, place)
    return Stated(
        place=place,
        mean=_values(cfg, "mean", place),
        std=_values(cfg, "std", place),
        architecture=str(cfg.get("architecture") or "").partition(".")[0],
        arguments=arguments if isinstance(arguments, dict) else {},
    )


def _preprocessor(path: Path) -> Stated:
    """Of the file that transformers' image processors write."""
    content = _json(path)
    if content.get("do_normalize") is False:
        return Stated(str(path), (0.0,) * 3, (1.0,) * 3)
    renamed = {"mean": content.get("image_mean"), "std": content.get("image_std")}
    return Stated(
        str(path), _values(renamed, "mean", str(path)), _values(renamed, "std", str(path))
    )


def _json(path: Path) -> dict[str, object]:
    try:
        content = bounds.read_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _values(content: Mapping[str, Any], key: str, place: str) -> tuple[float, ...] | None:
    """A mean or a deviation, one value a channel.

    Raises:
        ValueError: it is no list of numbers.
    """
    values = content.get(key)
    if values is None or values == []:
        return None
    values = [values] if isinstance(values, int | float) else values
    try:
        return tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise ValueError(f"{place} states {key}={values!r}, which are no numbers") from None


def check(key: str, numbers: Sequence[float], *, channels: int, place: str) -> None:
    """Raises ValueError for a mean or a deviation that images from 0 to 1 cannot have.

    Args:
        key: `mean` or `std`.
        numbers: to be checked.
        channels: of the images.
        place: where they are stated.
    """
    if len(numbers) != channels:
        raise ValueError(
            f"{place}: {key}={list(numbers)} has {len(numbers)} values; give one for each of the "
            f"{channels} channels (backbone.in_chans)"
        )
    least = "above 0" if key == "std" else "0 or more"
    if not all((v > 0 if key == "std" else v >= 0) and v <= 1 for v in numbers):
        raise ValueError(
            f"{place}: {key}={list(numbers)}; images are from 0 to 1, so that each value is "
            f"{least} and at most 1: give backbone.{key}, values for 0 to 255 divided by 255"
        )
