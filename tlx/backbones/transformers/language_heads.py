"""Language-model heads of transformers on a trunk's tokens, with the output weight tied to it."""

import logging
from typing import Any, final

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from tlx.backbones.backbone import Features
from tlx.backbones.text.network import TiedLinear
from tlx.backbones.transformers.sources import WeightsSource, built_by_library, quiet, reached

_log = logging.getLogger(__name__)


@final
class States(BaseModelOutputWithPoolingAndCrossAttentions):
    """A trunk's output with its states alone; all else that a head may pass on is None."""

    def __getattr__(self, name: str) -> None:
        """Caches, states of recurrence, routers' logits, ...: none."""
        if name.startswith("_"):
            raise AttributeError(name)


@final
class PassedStates(nn.Module):
    """Stands where the library's head looks for its trunk: gives the states that are passed in."""

    def __init__(self, trunk: nn.Module) -> None:
        """Keeps the trunk out of this module's parameters, for what else a head asks it for."""
        super().__init__()
        self._trunk = (trunk,)

    def __getattr__(self, name: str) -> Any:
        """The trunk's: factors (Falcon-H1), embeddings (DeBERTa)."""
        if name.startswith("_"):  # of torch and of copies, which ask before there is a trunk
            raise AttributeError(name)
        return getattr(self._trunk[0], name)

    @property
    def decoder(self) -> "PassedStates":
        """Itself: OPT's head asks the trunk's decoder."""
        return self

    def forward(self, *_args: object, inputs_embeds: Tensor, **_others: object) -> States:
        """The states as a trunk's output."""
        return States(last_hidden_state=inputs_embeds)


@final
class LibraryHead(nn.Module):
    """Logits of the vocabulary at each token, as the library computes them."""

    def __init__(self, model: nn.Module) -> None:
        """Keeps the library's language model, without its trunk."""
        super().__init__()
        self.model = model

    def forward(self, features: Features) -> Tensor:
        """Logits [N, T, V] from features with `tokens` [N, T, D]."""
        if features.tokens is None:
            raise ValueError("features.tokens is missing; a language model reads every token")
        logits: Tensor = self.model(inputs_embeds=features.tokens).logits
        return logits


def is_causal(config: PreTrainedConfig) -> bool:
    """Whether a network's head is a causal one: of what has no masked head in the library it is.

    That the network then reads left to right is no consequence: see
    `tlx.backbones.transformers.evidence`.
    """
    decoder = bool(getattr(config, "is_decoder", False))
    return decoder or config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def language_head(
    trunk: nn.Module, config: PreTrainedConfig, source: WeightsSource | None
) -> LibraryHead:
    """The head that the library puts on such a trunk: causal for decoders, masked for encoders.

    Args:
        trunk: the library's network, whose embeddings the output shares where the config says so.
        config: of the trunk.
        source: of pretrained weights of the head; None: random.

    Raises:
        ValueError: the library has no such head for this network.
    """
    kind: Any = AutoModelForCausalLM if is_causal(config) else AutoModelForMaskedLM
    if not getattr(config, "legacy", True):
        raise ValueError(
            f"the language-model head of this {config.model_type} (legacy=false) needs the trunk's "
            "embeddings while it runs; use backbone.kwargs={legacy:true}"
        )
    if source is None:
        with quiet(), built_by_library(config):
            full = kind.from_config(config, dtype=_type_of(trunk))
    else:
        with reached(source, "language-model head"):
            full, said = kind.from_pretrained(
                source.name,
                config=config,
                dtype=_type_of(trunk),
                trust_remote_code=False,
                output_loading_info=True,
            )
        lost = [n for n in said["missing_keys"] if not n.startswith(f"{full.base_model_prefix}.")]
        if lost:
            _log.warning(
                "the weights of %s have no language-model head: it starts at random", source.name
            )
    return LibraryHead(_without_trunk(full, trunk).train())


def _without_trunk(full: PreTrainedModel, trunk: Any) -> nn.Module:
    """The language model with its trunk and what it shares with it taken out (a mutator)."""
    output = full.get_output_embeddings()
    tied = output.weight is full.get_input_embeddings().weight
    setattr(full, full.base_model_prefix, PassedStates(trunk))
    if tied:
        linear = TiedLinear(trunk.get_input_embeddings().weight, output.bias)
        full.set_output_embeddings(linear)
        _name_once(full, keep=linear)
    model: nn.Module = full
    return model


def _name_once(model: nn.Module, *, keep: TiedLinear) -> None:
    """Removes further names of the output's bias (a mutator)."""
    for module in model.modules():
        if module is keep or keep.bias is None:
            continue
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter is keep.bias:
                delattr(module, name)


def _type_of(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype
