"""Backbones from timm: any of its image networks, by name."""

import difflib
import fnmatch
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import timm as timm_lib
import torch
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn

from tlx.backbones.backbone import ArgumentRefused, Backbone, Features
from tlx.backbones.timm import heads as timm_heads
from tlx.backbones.timm.grouping import embedding_names, layer_groups
from tlx.backbones.weights import files as weights
from tlx.backbones.weights import stated
from tlx.backbones.weights.key_rules import KeyRules, rules_of
from tlx.backbones.weights.stated import Stated
from tlx.data.images.spec import ImageSpec

MODALITY = "image"

RATES = ("drop_rate", "drop_path_rate")
MOST_BUILT = 16
create: Callable[..., nn.Module] = timm_lib.create_model
"""A network of timm by its name and the arguments of its model."""

_BUILT: dict[str, nn.Module] = {}
PROBED_SIZES = (28, 32, 48, 64, 75, 80, 96, 112, 128, 160, 192, 224, 256, 299, 320, 384, 448, 512)


def timm(
    *,
    name: str,
    init: str = "hub",
    image_size: int | list[int] | None = None,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    mean: list[float] | None = None,
    std: list[float] | None = None,
    rename: dict[str, str | None] | None = None,
    head_names: list[str] | None = None,
    kwargs: dict[str, Any] | None = None,
) -> Backbone:
    """A timm network without its classifier; pooled features, one vector an image.

    Args:
        name: timm's, with a tag of weights or without: `resnet18.a1_in1k`; `local-dir:FOLDER` or
            `hf-hub:OWNER/NAME`, whose config.json says which network it is.
        init: `hub`, `none` (random), or a file of safetensors or torch, whatever its name.
        image_size: pixels of a side, or height and width; None: what the weights were trained at.
        in_chans: channels of the input; pretrained first layers are adapted.
        drop_rate: dropout inside the network, where it has any.
        drop_path_rate: stochastic depth, where the network has any.
        mean: that images are normalised by, of each channel, from 0 to 1; None: what is stated
            beside a weights file (`tlx.backbones.weights.stated`), else what timm states of `name`.
        std: likewise.
        rename: for keys of a weights file: regular expressions, in this order, and what takes the
            place of their matches; null: the key is left out. Each must match some key.
        head_names: modules of a weights file that are heads, where they are not found by name or
            shape.
        kwargs: further arguments of timm's model, `{global_pool: avg}`; they replace those that
            are stated beside a weights file.

    Raises:
        ValueError: an unknown name, an argument the network does not take, an image size it
            cannot process, weights that do not fit.
        RuntimeError: the hub cannot be reached.
    """
    _check_name(name)
    sides = _sides(image_size)
    _check_numbers(in_chans, drop_rate, drop_path_rate)
    origin = stated.of_name(name) if stated.is_sourced(name) else _registered(name)
    beside = stated.of_file(Path(init)) if init != "hub" and Path(init).is_file() else Stated()
    taken = beside.arguments_of(origin.architecture)
    options = _options(name, sides, in_chans, {**taken, **(kwargs or {})})
    drops = {"drop_rate": drop_rate, "drop_path_rate": drop_path_rate}
    drops = {key: rate for key, rate in drops.items() if rate > 0}
    full = _on_meta(name, num_classes=2, **options, **drops)
    size = _input_size(full, sides, in_chans)
    dim = _checked_dim(name, options, size)
    rules = rules_of(rename, head_names, width=dim)
    module, report = _start(name, init, full, options | drops, rules)
    groups, fine, head_level, neck = layer_groups(module, full)
    names = [parameter for parameter, _ in module.named_parameters()]
    asked = {"mean": mean, "std": std}
    reads, note = _reads(module, size, asked=asked, beside=beside, origin=origin)
    notes = [note]
    if taken:
        told = ", ".join(f"{key}={value!r}" for key, value in taken.items())
        notes.append(f"backbone: {told} (of {beside.place})")
    if why := timm_heads.lacking(full, list(module.state_dict()), width=dim):
        notes.append(f"tlx export will refuse this network, with its head: {why}")
    return Backbone(
        module=module,
        features=pooled,
        groups=groups,
        fine_groups=fine,
        head_level=head_level,
        dims={"pooled": dim},
        reads=reads,
        weights_id="none" if init == "none" else weights.content_id(module),
        neck=neck,
        embeddings=embedding_names(names),
        no_decay=_no_decay(module, names),
        export={"source": "timm", **_form(name, origin, options, full, size)},
        notes=tuple(notes),
        account=report.account if report is not None else {},
        file_heads=report.heads if report is not None else {},
    )


def _registered(name: str) -> Stated:
    return Stated(place=f"timm's {name}", architecture=name.partition(".")[0])


def _form(
    name: str,
    origin: Stated,
    options: Mapping[str, object],
    full: nn.Module,
    size: tuple[int, int, int],
) -> dict[str, object]:
    """The name and the arguments by which plain timm builds the network, wherever it is from."""
    if not stated.is_sourced(name):
        return {"name": name, "kwargs": dict(options)}
    source, _, place = name.partition(":")
    ours = {key: value for key, value in origin.arguments.items() if key != "num_classes"}
    form = {**ours, **options}
    if size[0] != 3:
        form["in_chans"] = size[0]
    cfg: Mapping[str, object] = getattr(full, "pretrained_cfg", {})
    if cfg.get("fixed_input_size") and _takes(full, "img_size"):
        # which timm takes from the folder's config, where it is not stated as an argument
        form.setdefault("img_size", list(size[1:]) if size[1] != size[2] else size[1])
    shown = Path(place).name if source == "local-dir" else place  # no path of this machine
    return {"name": origin.architecture, "kwargs": form, "base": f"{source}:{shown}"}


def patch_side(name: str, kwargs: Mapping[str, object] | None = None) -> int:
    """Pixels by which a side of its input must be divisible; 1 where all will do."""
    _check_name(name)
    return _patch(_on_meta(name, **dict(kwargs or {}))) or 1


def pooled(module: nn.Module, inputs: Tensor) -> Features:
    """Features of a batch of images [N, C, H, W]: what timm's classifier would see."""
    return Features(pooled=module(inputs))


def least_image_size(name: str, kwargs: Mapping[str, object] | None = None) -> int:
    """The smallest of a ladder of square sizes that the network can process.

    Tried on the meta device, so that it costs no weights; inception_v3 gives 75.
    """
    _check_name(name)
    full = _on_meta(name, **dict(kwargs or {}))
    patch = _patch(full) or 1
    native = _input_size(full, None, 3)[-1]
    for side in sorted({native, *PROBED_SIZES}):
        if side % patch or side < 2 * patch or (patch == 1 and side < 32):
            continue
        if _probe(name, _options(name, (side, side), 3, dict(kwargs or {})), (3, side, side)):
            return side
    return native


def _start(
    name: str, init: str, full: nn.Module, options: Mapping[str, object], rules: KeyRules
) -> tuple[nn.Module, weights.LoadReport | None]:
    """The network with its starting weights, and what became of a file's."""
    weights.require_resolved(init, "hub, none, a file")
    folder = stated.folder_of(name) if init == "hub" else None
    if init == "hub" and folder is None:
        return _from_hub(name, full, options), None
    if folder is None and init != "none" and not Path(init).is_file():
        raise FileNotFoundError(
            f"backbone.init={init!r} is no file; allowed: hub, none, run:ID, experiment:NAME, "
            "or a file of safetensors or torch"
        )
    module = create(name, num_classes=0, **options)
    if folder is not None:
        return module, weights.load(module, stated.weights_in(folder), rules=rules)
    if init != "none":
        return module, weights.load(module, init, rules=rules)
    return module, None


def _channels(name: str, kwargs: Mapping[str, object]) -> int:
    """Channels of the input that the network has where none are asked for."""
    if not stated.is_sourced(name):
        return 3
    return int(_data_config(_on_meta(name, **kwargs))["input_size"][0])


def _from_hub(name: str, full: nn.Module, options: Mapping[str, object]) -> nn.Module:
    cfg: Mapping[str, object] = getattr(full, "pretrained_cfg", {})
    if not any(cfg.get(key) for key in ("url", "hf_hub_id", "file", "state_dict")):
        tags = timm_lib.list_pretrained(name.partition(".")[0] + ".*")
        raise ValueError(
            f"backbone.name={name!r} has no pretrained weights; use backbone.init=none, a weights "
            f"file, or one of: {', '.join(tags) or 'no tag of this network has weights'}"
        )
    with weights.hub_or_cache() if cfg.get("hf_hub_id") else nullcontext("") as silence:
        try:
            module = create(name, num_classes=0, pretrained=True, **options)
        except (OSError, RuntimeError) as error:
            raise _not_fetched(name, cfg, error, silence) from error
    return module


def _not_fetched(name: str, cfg: Mapping[str, object], error: Exception, silence: str) -> Exception:
    hub_id = cfg.get("hf_hub_id") or name
    reason = str(error).strip().splitlines()[:1] or ["no reason given"]
    # what is in the cache may be at fault as well
    by_silence = silence and isinstance(error, OSError)
    why = silence if by_silence else f"{type(error).__name__}: {reason[0]}"
    return weights.NotFetched(
        f"backbone.init=hub: the weights of {name!r} could not be fetched ({why}). Without "
        "network: give a file, backbone.init=<path>; or start from random weights, "
        "backbone.init=none; or fill the Hugging Face cache where there is network "
        f"(`hf download {hub_id}`) and point HF_HOME at it, with HF_HUB_OFFLINE=1"
    )


def _check_name(name: str) -> None:
    if stated.is_sourced(name):
        return
    network, _, tag = name.partition(".")
    if not timm_lib.is_model(network):
        near = difflib.get_close_matches(network, timm_lib.list_models(), n=3)
        raise ValueError(
            f"backbone.name={name!r} is no timm network; "
            f"did you mean {' or '.join(near) or 'one of timm.list_models()'}?"
        )
    if tag:
        tags = [known.partition(".")[2] for known in timm_lib.list_pretrained(network + ".*")]
        if tag not in tags:
            near = difflib.get_close_matches(tag, tags, n=1, cutoff=0.3) or tags[:1]
            raise ValueError(
                f"backbone.name={name!r}: {network} has no weights tagged {tag!r}; "
                f"it has: {', '.join(tags) or 'none'}"
                + (f"; did you mean {network}.{near[0]}?" if near else "")
            )


def _sides(image_size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """Height and width."""
    if image_size is None:
        return None
    sides = [image_size] * 2 if isinstance(image_size, int) else list(image_size)
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(
            f"backbone.image_size={image_size} must be a positive number of pixels, or two: height "
            "and width"
        )
    return sides[0], sides[1]


def _check_numbers(in_chans: int, drop_rate: float, drop_path_rate: float) -> None:
    if in_chans < 1:
        raise ValueError(f"backbone.in_chans={in_chans} must be at least 1")
    for key, rate in (("drop_rate", drop_rate), ("drop_path_rate", drop_path_rate)):
        if not 0 <= rate < 1:
            raise ValueError(f"backbone.{key}={rate} must lie in [0, 1)")


def _options(
    name: str, sides: tuple[int, int] | None, in_chans: int, kwargs: dict[str, object]
) -> dict[str, object]:
    """What timm's `create_model` is given besides name, classes, weights and drop rates."""
    for key in stated.OURS:
        if key in kwargs:
            raise ValueError(
                f"backbone.kwargs may not set {key!r}: tlx sets it (see backbone.init, "
                "image_size, in_chans, drop_rate, drop_path_rate)"
            )
    options = dict(kwargs)
    if in_chans != _channels(name, kwargs):
        options["in_chans"] = in_chans
    if sides is not None:
        plain = _on_meta(name, **kwargs)
        patch = _patch(plain)
        for side in sides:
            if patch and side % patch:
                low = max(side // patch, 1) * patch
                raise ValueError(
                    f"backbone.image_size={side} is no multiple of the patch size {patch} of "
                    f"{name!r}; the nearest are {low} and {low + patch}"
                )
        if _takes(plain, "img_size"):
            options["img_size"] = sides[0] if sides[0] == sides[1] else sides
    return options


def _on_meta(name: str, **options: object) -> nn.Module:
    """The network without memory for its weights: structure, and a check of the arguments.

    Built once for the same arguments, since a run asks several times: it may not be changed.
    """
    key = f"{name} {sorted(options.items())!r}"
    if key not in _BUILT:
        if len(_BUILT) >= MOST_BUILT:
            _BUILT.clear()
        _BUILT[key] = _build_on_meta(name, options)
    return _BUILT[key]


def _build_on_meta(name: str, options: Mapping[str, object]) -> nn.Module:
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            module = create(name, **options)
    except TypeError as error:
        for key in options:
            if f"'{key}'" in str(error):
                place = key if key in RATES else f"kwargs.{key}"
                raise ArgumentRefused(
                    key, f"backbone.{place}: {name!r} has no such argument ({error}); leave it out"
                ) from error
        given = ", ".join(sorted(options.keys() - {"num_classes"}))
        raise ValueError(
            f"backbone {name!r} does not take one of these arguments: {given} ({error}); "
            "look at backbone.kwargs, drop_rate, drop_path_rate"
        ) from error
    return module


def _takes(module: nn.Module, argument: str) -> bool:
    constructors = [c.__init__ for c in type(module).__mro__ if issubclass(c, nn.Module)]
    return any(argument in inspect.signature(make).parameters for make in constructors)


def _patch(module: nn.Module) -> int | None:
    """Side of a patch where the input is cut into patches, else None."""
    size = getattr(getattr(module, "patch_embed", None), "patch_size", None)
    if isinstance(size, Iterable):
        size = max(size)
    return size if isinstance(size, int) else None


def _data_config(module: nn.Module) -> dict[str, Any]:
    config: dict[str, Any] = resolve_model_data_config(module)  # type: ignore[no-untyped-call]
    return config


def _input_size(
    module: nn.Module, sides: tuple[int, int] | None, in_chans: int
) -> tuple[int, int, int]:
    height, width = sides or _data_config(module)["input_size"][-2:]
    return (in_chans, height, width)


def _as_text(sides: Sequence[int]) -> str:
    return f"{sides[0]}" if sides[0] == sides[1] else str(list(sides))


def _probe(
    name: str, options: Mapping[str, object], size: tuple[int, int, int]
) -> torch.Size | None:
    """Shape of the features of two images of that size; None where it cannot be computed."""
    try:
        module = _on_meta(name, num_classes=0, **options).eval()
        with torch.no_grad():
            out = module(torch.empty(2, *size, device="meta"))
    except (RuntimeError, AssertionError, ValueError, NotImplementedError):
        return None
    return out.shape if isinstance(out, Tensor) else None


def _checked_dim(name: str, options: Mapping[str, object], size: tuple[int, int, int]) -> int:
    """Width of the pooled features, seen on the meta device at the size that will be used."""
    shape = _probe(name, options, size)
    if shape is None:
        plain = {key: value for key, value in options.items() if key != "img_size"}
        module = _on_meta(name, num_classes=0, **plain)
        native = _input_size(module, None, size[0])
        if native != size and _probe(name, plain, native) is not None:
            kwargs = {key: value for key, value in plain.items() if key != "in_chans"}
            raise ValueError(
                f"backbone.image_size={_as_text(size[1:])} does not fit {name!r}; "
                f"its least is about {least_image_size(name, kwargs)}, its own is {native[-1]}"
            )
        # Some networks cannot run on the meta device at all: their own word must do.
        return int(getattr(module, "head_hidden_size", 0) or getattr(module, "num_features", 0))
    if len(shape) != 2:
        raise ValueError(
            f"backbone {name!r} gives features of shape {tuple(shape)} for two images, not "
            "[2, D]; set a pooling, backbone.kwargs={global_pool: avg}"
        )
    return int(shape[1])


def _reads(
    module: nn.Module,
    size: tuple[int, int, int],
    *,
    asked: Mapping[str, Sequence[float] | None],
    beside: Stated,
    origin: Stated,
) -> tuple[ImageSpec, str]:
    """What the network reads, and a line for the log on mean and deviation.

    Args:
        module: the network.
        size: [C, H, W] of its input.
        asked: the config's `mean` and `std`.
        beside: what is stated beside the weights file.
        origin: what is stated of the network's name.
    """
    config = _data_config(module)
    values, places = {}, {}
    for key in ("mean", "std"):
        own, other = asked[key], getattr(beside, key)
        if own is not None:
            values[key], places[key] = [float(value) for value in own], f"backbone.{key}"
        elif other is not None:
            values[key], places[key] = _per_channel(other, size[0]), beside.place
        else:
            unsaid = stated.is_sourced(origin.place) and getattr(origin, key) is None
            place = f"timm's default, {origin.place} states none" if unsaid else origin.place
            values[key], places[key] = _per_channel(config[key], size[0]), place
        stated.check(key, values[key], channels=size[0], place=places[key])
    spec = ImageSpec(
        size=size,
        mean=tuple(values["mean"]),
        std=tuple(values["std"]),
        interpolation=config["interpolation"],
        crop_pct=float(config["crop_pct"]),
        crop_mode=config["crop_mode"],
    )
    told = {k: f"{k} {', '.join(f'{v:.4g}' for v in values[k])}" for k in values}
    if len({*places.values()}) == 1:
        return spec, f"images are normalised with {'; '.join(told.values())} (of {places['std']})"
    apart = "; ".join(f"{told[key]} (of {places[key]})" for key in told)
    return spec, f"images are normalised with {apart}"


def _per_channel(values: Iterable[float], channels: int) -> list[float]:
    """One value a channel: the weights' own where the number fits, else their mean."""
    known = [float(value) for value in values]
    return known if len(known) == channels else [sum(known) / len(known)] * channels


def _no_decay(module: nn.Module, names: Iterable[str]) -> frozenset[str]:
    listed = getattr(module, "no_weight_decay", None)
    patterns = set(listed()) if callable(listed) else set()
    return frozenset(n for n in names if any(fnmatch.fnmatch(n, p) for p in patterns))
