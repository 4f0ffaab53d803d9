"""Trained networks for the rest of the world: plain timm, transformers, and ONNX."""

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tlx.backbones.export import LINEAR_HEAD
from tlx.backbones.timm import heads as timm_heads
from tlx.backbones.timm.networks import create
from tlx.backbones.weights import files as weights
from tlx.data.images.spec import ImageSpec
from tlx.data.inputs import Spec
from tlx.data.text.spec import TextSpec


class ExportError(ValueError):
    """A network that the other side has no form for."""


def export(
    state: Mapping[str, Tensor],
    folder: str | Path,
    *,
    facts: Mapping[str, object],
    class_names: Sequence[str],
    reads: Spec,
    onnx: bool = False,
) -> Path:
    """Writes model.safetensors, config.json and README.md that the library loads; the folder.

    Args:
        state: the whole network's, names beginning with `backbone.` and `head.`.
        folder: made if missing; files of an earlier export are replaced.
        facts: the backbone's `export`.
        class_names: in the order of the outputs.
        reads: the backbone's.
        onnx: also write model.onnx, with a free batch size; images only.

    Raises:
        ExportError: a network or a head that neither timm nor transformers has; of a text network,
            its parts are written instead.
    """
    if facts.get("source") == "transformers":
        return _export_text(state, Path(folder), facts, class_names, reads, onnx=onnx)
    if facts.get("source") != "timm":
        raise ExportError(
            "only backbones from timm and transformers can be exported, not "
            f"{facts.get('source')!r}: no other library has their form; the run's own "
            "model.safetensors holds the weights"
        )
    assert isinstance(reads, ImageSpec)
    if onnx:
        _check_onnx()
    name, options = str(facts["name"]), options_of(facts)
    full = full_network(name, options, len(class_names))
    named = timm_names(state, full, name)
    _check_outputs(state, named, name, options, reads)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights.write(named, folder / "model.safetensors", metadata={"format": "pt"})
    config = _config(full, options, class_names, reads)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    readme = _readme(name, options, config["pretrained_cfg"], reads)
    (folder / "README.md").write_text(readme, encoding="utf-8")
    if onnx:
        _write_onnx(
            name, options, named, folder / "model.onnx", classes=len(class_names), size=reads.size
        )
    return folder


def _export_text(
    state: Mapping[str, Tensor],
    folder: Path,
    facts: Mapping[str, object],
    class_names: Sequence[str],
    reads: Spec,
    *,
    onnx: bool,
) -> Path:
    from tlx.backbones.export.texts import NoSuchForm, export_text

    if onnx:
        raise ExportError("export to ONNX knows networks of images only; leave --onnx out")
    assert isinstance(reads, TextSpec)
    try:
        return export_text(state, folder, facts=facts, class_names=class_names, reads=reads)
    except NoSuchForm as error:
        raise ExportError(str(error)) from error


def overlay(folder: str | Path) -> dict[str, object]:
    """What `timm.create_model(..., pretrained_cfg_overlay=…)` needs to load an exported folder.

    The number of classes must be told too: timm drops a classifier that differs from the
    architecture's own in size.
    """
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    return {"file": str(Path(folder) / "model.safetensors"), **_overlay(config["pretrained_cfg"])}


def _overlay(cfg: Mapping[str, Any]) -> dict[str, object]:
    return {
        "num_classes": cfg["num_classes"],
        **{key: tuple(cfg[key]) for key in ("input_size", "mean", "std")},
        **{key: cfg[key] for key in ("interpolation", "crop_pct", "crop_mode")},
        "label_offset": 0,
    }


def options_of(facts: Mapping[str, Any]) -> dict[str, object]:
    """Arguments of the model of timm that a backbone's `export` states."""
    return dict(facts.get("kwargs", {}))


def full_network(name: str, options: Mapping[str, object], classes: int) -> nn.Module:
    """The network of timm with a classifier, on the meta device."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        module = create(name, num_classes=classes, **options)
    return module


def timm_names(state: Mapping[str, Tensor], full: nn.Module, name: str) -> dict[str, Tensor]:
    """The state under timm's names, checked against the full network's names and shapes."""
    ours = {key for key in state if key.startswith("head.")}
    if ours != set(LINEAR_HEAD):
        raise ExportError(
            f"the head of this run cannot be mapped to timm's classifier of {name!r}: it needs "
            f"exactly {', '.join(LINEAR_HEAD)}, and has {', '.join(sorted(ours))}; heads of "
            "several layers have no form in plain timm"
        )
    named = {
        key.removeprefix("backbone."): tensor
        for key, tensor in state.items()
        if key.startswith("backbone.")
    }
    try:
        named |= timm_heads.placed(
            full, list(named), weight=state[LINEAR_HEAD[0]], bias=state[LINEAR_HEAD[1]]
        )
    except timm_heads.NoPlace as error:
        raise ExportError(
            f"the head of this run has no place in timm's {name!r}: {error}"
        ) from None
    target = full.state_dict()
    wrong = sorted(named.keys() ^ target.keys())
    wrong += [k for k in named.keys() & target.keys() if named[k].shape != target[k].shape]
    if wrong:
        raise ExportError(f"{name!r} with a classifier has other weights here: {', '.join(wrong)}")
    return {key: named[key] for key in target}


def _check_outputs(
    state: Mapping[str, Tensor],
    named: Mapping[str, Tensor],
    name: str,
    options: Mapping[str, object],
    reads: ImageSpec,
) -> None:
    """Tries a network whose classifier is more than one linear layer.

    Raises:
        ExportError: it gives other outputs than the run's network.
    """
    beside = {key: tensor for key, tensor in named.items() if f"backbone.{key}" not in state}
    if timm_heads.is_plain(beside):
        return
    weight, bias = (state[key] for key in LINEAR_HEAD)
    with torch.random.fork_rng(devices=[]):
        full = create(name, num_classes=len(weight), **options)
        trunk = create(name, num_classes=0, **options)
        images = torch.randn(2, *reads.size)
    full.load_state_dict(named)
    trunk.load_state_dict({key: named[key] for key in named.keys() - beside.keys()})
    head = nn.Linear(weight.shape[1], len(weight))
    head.load_state_dict({"weight": weight, "bias": bias})
    try:
        timm_heads.check_outputs(full, trunk, images, head)
    except timm_heads.NoPlace as error:
        raise ExportError(
            f"the head of this run has no place in timm's {name!r}: {error}"
        ) from None


def _config(
    full: nn.Module, options: Mapping[str, object], class_names: Sequence[str], reads: ImageSpec
) -> dict[str, Any]:
    """The config.json of timm, as `local-dir:` and the Hugging Face hub read it."""
    cfg: dict[str, object] = dict(getattr(full, "pretrained_cfg", {}))
    keep = ("fixed_input_size", "min_input_size", "pool_size", "first_conv", "classifier")
    return {
        "architecture": cfg["architecture"],
        "num_classes": len(class_names),
        "num_features": int(getattr(full, "num_features", 0)),
        "label_names": list(class_names),
        "model_args": dict(options),
        "pretrained_cfg": {
            "tag": "tlx",
            "custom_load": False,
            "num_classes": len(class_names),
            "input_size": list(reads.size),
            "mean": list(reads.mean),
            "std": list(reads.std),
            "interpolation": reads.interpolation,
            "crop_pct": reads.crop_pct,
            "crop_mode": reads.crop_mode,
            **{key: cfg[key] for key in keep if key in cfg},
        },
    }


def _readme(
    name: str, options: Mapping[str, object], cfg: Mapping[str, object], reads: ImageSpec
) -> str:
    arguments = "".join(f", {key}={value!r}" for key, value in sorted(options.items()))
    told = ", ".join(f"{key}={value!r}" for key, value in _overlay(cfg).items())
    return (
        f"# {name}, fine-tuned\n\nWritten by tlx. Loads into plain timm:\n\n```python\n"
        "import timm\n\n"
        f"model = timm.create_model({name!r}, pretrained=True, "
        f"num_classes={cfg['num_classes']}{arguments},\n"
        f"    pretrained_cfg_overlay=dict(file='model.safetensors', {told}))\n"
        "# or, from the folder: timm.create_model('local-dir:FOLDER', pretrained=True)\n```\n\n"
        f"Input {list(reads.size)}, mean {list(reads.mean)}, "
        f"std {list(reads.std)}. Labels, in order, are in config.json.\n"
    )


def _check_onnx() -> None:
    missing = [p for p in ("onnx", "onnxscript") if importlib.util.find_spec(p) is None]
    if missing:
        raise ExportError(
            f"export to ONNX needs {' and '.join(missing)}: pip install onnx onnxscript"
        )


def _write_onnx(
    name: str,
    options: Mapping[str, object],
    named: Mapping[str, Tensor],
    path: Path,
    *,
    classes: int,
    size: Sequence[int],
) -> None:
    module = create(name, num_classes=classes, exportable=True, **options)
    module.load_state_dict(named)
    example = torch.zeros(2, *size)
    torch.onnx.export(
        module.eval(),
        (example,),
        str(path),
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
    )
