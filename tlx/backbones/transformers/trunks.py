"""A network of transformers as a trunk: built, started, and looked at without its weights."""

import functools
import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedConfig

from tlx.backbones.pooling import Pooling
from tlx.backbones.text import network as text
from tlx.backbones.transformers import stacks
from tlx.backbones.transformers.language_heads import is_causal
from tlx.backbones.transformers.sources import (
    UNBUILT,
    WeightsSource,
    built_by_library,
    quiet,
    reached,
)
from tlx.backbones.weights import files as weights
from tlx.backbones.weights.key_rules import NO_RULES, KeyRules
from tlx.backbones.weights.kinds import SAFETENSORS, kind_of
from tlx.base import bounds

MOST_KNOWN = 16
_KNOWN: dict[str, "TrunkFacts"] = {}
POOLER = "pooler."
OPTIONAL = ("pooling.", f"model.{POOLER}")
"""Parts of a run's trunk that another run may lack: a task that reads tokens needs none."""
FOREIGN = (
    *(POOLER, "cls.", "lm_head.", "predictions.", "lm_predictions.", "mask_predictions."),
    *("generator_", "discriminator_", "vocab_", "decoder.", "embeddings.position_ids"),
)
"""Beginnings of names that checkpoints of other makers have beside the trunk."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Design:
    """A trunk, before it has weights.

    Attributes:
        config: of transformers.
        unit: what the task reads.
        pooling: how tokens become one vector.
        attention: implementation of attention; None: the library's choice.
    """

    config: PreTrainedConfig
    unit: str
    pooling: str
    attention: str | None


@dataclass(frozen=True)
class TrunkFacts:
    """What the structure of a network tells, without its weights.

    Attributes:
        layers: names of the lists that hold the layers.
        needs: of `stacks.first_needs`; None where the network could not be traced.
        first_position: number of a text's first position.
        head_bias: whether a head on it has a bias; a decoder's classifier in the library has none.
    """

    layers: tuple[str, ...]
    needs: dict[str, int | None] | None
    first_position: int
    head_bias: bool = True


def started(
    design: Design, source: WeightsSource, init: str, *, rules: KeyRules = NO_RULES
) -> tuple[text.TextNetwork, weights.LoadReport | None]:
    """A trunk with its starting weights, and what became of a file's.

    Args:
        design: of the trunk.
        source: of the weights, where `init` is `hub`.
        init: `hub`, `none` or a file.
        rules: for the names in a file.

    Raises:
        ValueError: the weights do not fit.
        RuntimeError: the hub cannot be reached.
    """
    if init == "hub":
        with reached(source, "weights"):
            return built(design, source), None
    with quiet():
        network = built(design)
    if init == "none":
        return network, None
    if _of_run(Path(init)):
        return network, weights.load(network, init, optional=OPTIONAL, rules=rules)
    return network, weights.load(network.model, init, optional=FOREIGN, rules=rules)


def built(design: Design, source: WeightsSource | None = None) -> text.TextNetwork:
    """A trunk with random weights, or with those of a source."""
    config = design.config
    options: dict[str, object] = {"dtype": torch.float32}
    if design.attention is not None:
        options["attn_implementation"] = design.attention
    kind: type = type(config)
    own = design.unit == "pooled" and design.pooling == "cls" and _reads_pooler(kind)
    if _takes_pooler(kind):
        options["add_pooling_layer"] = own
    if not config.architectures:
        config.architectures = []  # Funnel's is looked for there, and no network without it found
    if source is None:
        with built_by_library(config):
            model: nn.Module = AutoModel.from_config(config, **options)
    else:
        model = _pretrained(config, source, options)
    pooling = None if own else Pooling(design.pooling, state_width(config))
    call = functools.partial(run, takes=_taken(model, config))
    return text.TextNetwork(model, call, unit=design.unit, pooling=pooling).train()


def run(
    model: nn.Module,
    inputs: text.Inputs,
    *,
    takes: Sequence[str],
    prompt: text.Virtual | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Calls a network of transformers: last hidden states, and its pooled output if it has one.

    Positions are counted from the mask, so that padding on the left moves none.

    Args:
        model: the library's.
        inputs: of a batch.
        takes: those of its optional arguments that are to be given.
        prompt: virtual tokens before each text; the states are those of the texts alone.
    """
    before = 0 if prompt is None else prompt.tokens
    mask = nn.functional.pad(inputs["attention_mask"].long(), (before, 0), value=1)
    ids = inputs["input_ids"]
    given: dict[str, object] = {"input_ids": ids} if prompt is None else prompt.given(model, ids)
    length = mask.shape[1] if "inputs_embeds" in given else ids.shape[1]
    given["attention_mask"] = mask
    if "token_type_ids" in takes and "token_type_ids" in inputs:
        types = inputs["token_type_ids"]
        given["token_type_ids"] = nn.functional.pad(types, (length - types.shape[1], 0))
    if "position_ids" in takes:
        given["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -length:]
    elif prompt is not None and "position_ids" in inspect.signature(model.forward).parameters:
        given["position_ids"] = _counted(mask, first_position(model))[:, -length:]
    if "use_cache" in takes:
        given["use_cache"] = False
    out = model(**given)
    hidden: Tensor = out.last_hidden_state[:, -ids.shape[1] :]
    if length > ids.shape[1] and getattr(model, "pooler", None) is not None:
        return hidden, _pooled(model, hidden)  # the library's own is of the first virtual token
    return hidden, getattr(out, "pooler_output", None)


def _pooled(model: Any, hidden: Tensor) -> Tensor:
    """The output of a network's pooler on states [N, T, D]."""
    if not isinstance(model.pooler, nn.Linear):
        pooled: Tensor = model.pooler(hidden)
        return pooled
    # ALBERT and BigBird pick the first token and apply the activation outside their pooler
    activation = getattr(model, "pooler_activation", None) or model.activation
    pooled = activation(model.pooler(hidden[:, 0]))
    return pooled


def _counted(mask: Tensor, first: int) -> Tensor:
    """Positions of real tokens from the first on; one below it for padding, as in RoBERTa."""
    return torch.where(mask > 0, mask.cumsum(dim=1) - 1 + first, max(first - 1, 0))


def facts(design: Design) -> TrunkFacts:
    """What the structure tells, found on the meta device; kept, since a run asks several times."""
    key = f"{design.config.to_json_string(use_diff=False)} {design.unit} {design.pooling}"
    if key not in _KNOWN:
        if len(_KNOWN) >= MOST_KNOWN:
            _KNOWN.clear()
        with torch.random.fork_rng(devices=[]), torch.device("meta"), quiet():
            network = built(design).eval()
            needed = sum(each.numel() * each.element_size() for each in network.parameters())
            bounds.require_memory(needed, f"this {design.config.model_type}")
            layers = stacks.layers_of(network)
            needs = _needs(network, layers)
            bias = not (design.unit == "pooled" and design.pooling == "last") or _bias(design)
            _KNOWN[key] = TrunkFacts(layers, needs, first_position(network), bias)
    return _KNOWN[key]


def state_width(config: Any) -> int:
    """Width of the last states: OPT projects them where its embeddings are narrower (opt-350m)."""
    return int(getattr(config, "word_embed_proj_dim", None) or config.hidden_size)


def takes_types(config: PreTrainedConfig) -> bool:
    """Whether the network tells first and second texts apart by token types."""
    return int(getattr(config, "type_vocab_size", 0) or 0) > 1


def _pretrained(
    config: PreTrainedConfig, source: WeightsSource, options: Mapping[str, object]
) -> nn.Module:
    model, said = AutoModel.from_pretrained(
        source.name, config=config, trust_remote_code=False, output_loading_info=True, **options
    )
    missing = sorted(said["missing_keys"])
    if missing and all(name.startswith(POOLER) for name in missing):
        _log.warning(
            "the weights of %s have no pooler: it starts at random; backbone.pooling=mean does "
            "without one",
            source.name,
        )
    elif missing:
        raise ValueError(
            f"the weights of {source.name!r} lack {len(missing)} of the network's parameters: "
            f"{', '.join(missing[:5])}, ...; does backbone.kwargs ask for more than they have?"
        )
    trunk: nn.Module = model
    return trunk


@functools.cache
def _takes_pooler(config: type) -> bool:
    kind: Any = AutoModel._model_mapping[config]
    kind = kind[0] if isinstance(kind, tuple) else kind
    return "add_pooling_layer" in inspect.signature(kind).parameters


@functools.cache
def _reads_pooler(config: type) -> bool:
    """Whether the library's own classifier reads the trunk's pooler; RoBERTa's does not."""
    if not _takes_pooler(config):
        return False
    small = config()
    small.num_hidden_layers = 1
    with torch.random.fork_rng(devices=[]), torch.device("meta"), quiet():
        try:
            full = AutoModelForSequenceClassification.from_config(small)
        except ValueError:  # it has no classifier
            return False
    return getattr(full.base_model, "pooler", None) is not None


def _bias(design: Design) -> bool:
    """Whether the library's classifier on a decoder is anything but a linear layer without bias."""
    if not is_causal(design.config):
        return True
    try:
        full = AutoModelForSequenceClassification.from_config(design.config)
    except (ValueError, *UNBUILT):
        return True
    prefix = f"{full.base_model_prefix}."
    beside = {n for n, _ in full.named_parameters() if not n.startswith(prefix)}
    return len(beside) != 1 or not min(beside).endswith(".weight")


def _taken(model: nn.Module, config: PreTrainedConfig) -> tuple[str, ...]:
    """The optional arguments that a network takes and needs."""
    known = inspect.signature(model.forward).parameters
    wanted = {
        "token_type_ids": takes_types(config),
        "position_ids": first_position(model) == 0,  # others count by themselves
        "use_cache": True,
    }
    return tuple(name for name, wants in wanted.items() if wants and name in known)


def first_position(model: nn.Module) -> int:
    """Number of a text's first position.

    RoBERTa counts from its padding's id on, and skips padding by itself.
    """
    for module in model.modules():
        padding = vars(module).get("padding_idx")
        if hasattr(module, "position_embeddings") and isinstance(padding, int):
            return padding + 1
    return 0


def _needs(network: text.TextNetwork, layers: tuple[str, ...]) -> dict[str, int | None] | None:
    ids, mask = torch.zeros(1, 4, dtype=torch.long), torch.ones(1, 4, dtype=torch.long)

    def outputs(given: dict[str, Tensor], _network: nn.Module) -> list[Tensor]:
        out = network.model(input_ids=ids, **given)
        read = [out.last_hidden_state, getattr(out, "pooler_output", None)]
        if network.pooling is not None:
            read.append(network.pooling(out.last_hidden_state, mask.bool()))
        return [tensor for tensor in read if tensor is not None]

    # reading a mask's values is impossible here: some do not where there is none, some make one
    for given in ({}, {"attention_mask": mask}):
        try:
            return stacks.first_needs(network, layers, functools.partial(outputs, given))
        except (RuntimeError, TypeError, NotImplementedError, AttributeError, ValueError):
            continue
    _log.warning(
        "%s cannot be traced: its layer groups follow the order in which its parts are registered",
        type(network.model).__name__,
    )
    return None


def _of_run(path: Path) -> bool:
    """Whether a weights file was written by a run, whose names are known."""
    if kind_of(path) != SAFETENSORS:
        return False
    try:
        with safe_open(str(path), framework="pt") as file:
            return any(name.startswith("backbone.model.") for name in file.keys())  # noqa: SIM118
    except SafetensorError:
        return False  # what is wrong with the file is said where its weights are read
