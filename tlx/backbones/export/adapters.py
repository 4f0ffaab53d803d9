"""A run's adapters alone, in the files that peft loads onto the network it started from."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tlx.backbones.adapters import peft as adapters
from tlx.backbones.backbone import POOLED
from tlx.backbones.export.networks import ExportError, full_network, options_of, timm_names
from tlx.backbones.export.texts import HEAD, HEAD_FILE, TRUNK, config_of, form_of, misread
from tlx.backbones.timm import heads as timm_heads
from tlx.backbones.transformers import prompts
from tlx.backbones.transformers.sources import quiet
from tlx.backbones.weights import files as weights
from tlx.data.inputs import Spec
from tlx.data.text.spec import TextSpec

BACKBONE = "backbone."
READ_AS_WORDS = (
    "peft's classifiers take virtual tokens for those of the text; of what the trunk gives, the "
    "first ones are theirs, and are to be left out"
)


@dataclass(frozen=True)
class Base:
    """A library's network that adapters go onto, with the words that make it.

    Attributes:
        network: with random weights.
        trunk: what the trunk's parameters begin with in the run, and `inside`, in the network.
        inside: see `trunk`.
        head: name of the module that the run's head is; empty: the network has none.
        code: of Python, that makes it.
        why: there is no head, if so.
    """

    network: nn.Module
    trunk: str
    inside: str
    head: str
    code: str
    why: str = ""


def export_adapters(
    state: Mapping[str, Tensor],
    folder: str | Path,
    *,
    facts: Mapping[str, object],
    class_names: Sequence[str],
    reads: Spec,
) -> Path:
    """Writes adapter_model.safetensors, adapter_config.json and README.md; the folder.

    The head is among them, where the library's network has a place for it.

    Args:
        state: the whole network's, with adapters.
        folder: made if missing; files of an earlier export are replaced.
        facts: the backbone's `export`.
        class_names: in the order of the outputs; none for language models.
        reads: the backbone's.

    Raises:
        ExportError: the run has no adapters; or its head has no place in the library's network, and
            was written to a file of its own.
    """
    made = adapters.of_facts(facts)
    if made is None:
        raise ExportError("this run has no adapters: export it without --adapter alone")
    from peft import get_peft_model

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    plain = {n: t for n, t in state.items() if not adapters.is_adapter(n)}
    named = {adapters.plain_name(n): t for n, t in plain.items()}
    why = READ_AS_WORDS if made.kind == "prompt" else ""
    base = _base(named, facts, class_names, reads, why=why)
    config = _config(made, base, unit=reads.unit if isinstance(reads, TextSpec) else POOLED)
    with quiet(), warnings.catch_warnings():
        # peft asks transformers by an older name
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")
        model = get_peft_model(base.network, config)
        model.peft_config[adapters.NAME].base_model_name_or_path = _origin(facts)
        _load(model, state, base, made)
        model.save_pretrained(str(folder), save_embedding_layers=False)
    _write_readme(folder, facts, base)
    (folder / HEAD_FILE).unlink(missing_ok=True)
    if base.why:
        head = {name: tensor for name, tensor in plain.items() if name.startswith(HEAD)}
        weights.write(head, folder / HEAD_FILE, metadata={"format": "pt"})
        raise ExportError(
            f"the head of this run has no place in the library's network: {base.why}. Written to "
            f"{folder}: the adapters, for the trunk alone, and the head in {HEAD_FILE}"
        )
    return folder


def _base(
    plain: Mapping[str, Tensor],
    facts: Mapping[str, object],
    class_names: Sequence[str],
    reads: Spec,
    *,
    why: str,
) -> Base:
    """The network; without its head where `why` says so, or there is no place for one."""
    if facts["source"] == "timm":
        name, options = str(facts["name"]), options_of(facts)
        full = full_network(name, options, len(class_names))
        named = timm_names(plain, full, name)
        beside = {n: t for n, t in named.items() if f"{BACKBONE}{n}" not in plain}
        if not timm_heads.is_plain(beside):
            code = f"import timm\n\nbase = timm.create_model({_origin(facts)!r}, pretrained=True, "
            code += "".join(f"{key}={value!r}, " for key, value in options.items())
            why = f"{name!r} has several classifiers, or a norm before its own"
            trunk = full_network(name, options, 0).to_empty(device="cpu")
            return Base(trunk, BACKBONE, "", "", f"{code}num_classes=0)", why)
        stated = {"num_classes": len(class_names), **options}
        arguments = "".join(f", {key}={value!r}" for key, value in stated.items())
        made = f"timm.create_model({_origin(facts)!r}, pretrained=True{arguments})"
        code = f"import timm\n\nbase = {made}"
        head = _owner(named.keys() - {n.removeprefix(BACKBONE) for n in plain})
        return Base(full.to_empty(device="cpu"), BACKBONE, "", head, code)
    assert isinstance(reads, TextSpec)
    config = config_of(facts, class_names, reads)
    kind, named, lacking = form_of(plain, config, facts, reads)
    why = why or lacking
    if reads.unit == "token" and not why and any(n.startswith(HEAD) for n in plain):
        why = "a language model's own head is no single layer"
    with quiet():
        if not why:
            network = kind.from_config(config, dtype=torch.float32)
            why = misread(network, facts, reads)
        if why:
            from transformers import AutoModel

            kind = AutoModel
            network = kind.from_config(config, dtype=torch.float32)
    inside = "" if why else f"{network.base_model_prefix}."
    rest = set() if why else {name for name in named if not name.startswith(inside)}
    labels = f", num_labels={len(class_names)}" if rest else ""
    made = f"{kind.__name__}.from_pretrained({facts['name']!r}{labels})"
    code = f"from transformers import {kind.__name__}\n\nbase = {made}"
    return Base(network, TRUNK, inside, _owner(rest), code, why)


def _origin(facts: Mapping[str, object]) -> str:
    """By what the network is known that the adapters go onto."""
    return str(facts.get("base", facts["name"]))


def _owner(names: set[str]) -> str:
    return next(iter(names)).rpartition(".")[0] if names else ""


def _config(made: adapters.Adapters, base: Base, *, unit: str) -> Any:
    """The config of peft for adapters that go onto a library's network."""
    if made.kind in adapters.PROMPTS:
        config = prompts.peft_config(made, base.network)
        if base.head:
            config.task_type = "TOKEN_CLS" if unit == "word" else "SEQ_CLS"
        return config
    config = adapters.peft_config(_moved(made, base), base.network)
    if made.kind == "vera":
        config.save_projection = True  # once, and no one need draw them anew
    config.modules_to_save = [base.head] if base.head else None
    return config


def _moved(made: adapters.Adapters, base: Base) -> adapters.Adapters:
    """The adapters under the names of the library's network."""

    def moved(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(base.inside + f"{BACKBONE}{n}".removeprefix(base.trunk) for n in names)

    return replace(made, layers=moved(made.layers), narrowing=moved(made.narrowing))


def _load(
    model: nn.Module, state: Mapping[str, Tensor], base: Base, made: adapters.Adapters
) -> None:
    """Loads adapters and head into peft's network (a mutator)."""
    if made.kind in adapters.PROMPTS:
        root = "base_model."
        name = f"prompt_encoder.{adapters.NAME}.embedding.weight"
        own = {name: state[f"{BACKBONE}{prompts.PARAMETER}"]}
    else:
        root = "base_model.model."
        own = {
            f"{root}{base.inside}{name.removeprefix(base.trunk)}": tensor
            for name, tensor in state.items()
            if adapters.is_adapter(name)
        }
    if base.head:
        kept = f"{root}{base.head}.modules_to_save.{adapters.NAME}."
        heads = {n: t for n, t in state.items() if n.startswith(HEAD)}
        own |= {f"{kept}{name.rpartition('.')[2]}": tensor for name, tensor in heads.items()}
    unknown = model.load_state_dict(own, strict=False).unexpected_keys
    if unknown:
        raise ExportError(f"the library's network has no {', '.join(unknown[:5])}")


def _write_readme(folder: Path, facts: Mapping[str, object], base: Base) -> None:
    (folder / "README.md").write_text(
        f"# Adapters of {facts['name']}\n\nWritten by tlx. They load onto the weights that the run "
        f"started from, by peft:\n\n```python\n{base.code}\n\nfrom peft import PeftModel\n\n"
        "model = PeftModel.from_pretrained(base, 'FOLDER')\n```\n",
        encoding="utf-8",
    )
