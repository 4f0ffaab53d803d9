"""Virtual tokens of the peft library before every text: learned embeddings, or keys and values.

peft is imported where they are made, and nowhere else. Shapes: N items, V virtual tokens, T tokens,
L layers, H heads of keys and values, D features, of a head K.
"""

import inspect
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor, nn

from tlx.backbones.adapters.peft import Adapters, as_facts
from tlx.backbones.backbone import Backbone
from tlx.backbones.text.network import TextNetwork
from tlx.backbones.transformers.trunks import first_position
from tlx.data.text.spec import TextSpec
from tlx.methods.stages import Group

PARAMETER = "prompt.encoder.embedding.weight"
"""Name of the one parameter in the backbone."""


@final
class Prompt(nn.Module):
    """Virtual tokens, drawn by torch's generator; a prefix from a normal distribution."""

    def __init__(self, made: Adapters, model: Any) -> None:
        """Makes them for a network.

        Args:
            made: `prompt`, which starts at the embeddings of random tokens, or `prefix`.
            model: of transformers.
        """
        super().__init__()
        from peft import PrefixEncoder, PromptEmbedding

        config = peft_config(made, model)
        self.kind, self.tokens = made.kind, int(config.num_virtual_tokens)
        self.heads = int(config.num_attention_heads)
        self.head_width = int(config.token_dim) // self.heads
        if made.kind == "prefix":
            self.encoder: nn.Module = PrefixEncoder(config)  # type: ignore[no-untyped-call]
        else:
            self.encoder = PromptEmbedding(config, model.get_input_embeddings())  # type: ignore[no-untyped-call]

    def given(self, model: Any, ids: Tensor) -> dict[str, Any]:
        """What a network is given in place of token ids [N, T].

        For `prompt` embeddings [N, V + T, D]; for `prefix` the ids, and the virtual tokens' keys
        and values in each layer.
        """
        places = torch.arange(self.tokens, device=ids.device).expand(len(ids), -1)
        virtual: Tensor = self.encoder(places)  # before the texts: those are not worth storing
        if self.kind == "prefix":
            return {"input_ids": ids, "past_key_values": self._cache(virtual)}
        embeddings: Tensor = model.get_input_embeddings()(ids)
        return {"inputs_embeds": torch.cat([virtual.to(embeddings.dtype), embeddings], dim=1)}

    def _cache(self, virtual: Tensor) -> object:
        """Keys and values, [2, N, H, V, K] a layer, from [N, V, 2 L H K], in peft's order."""
        from transformers import DynamicCache

        parts = virtual.unflatten(2, (-1, self.heads, self.head_width))
        return DynamicCache(parts.permute(2, 0, 3, 1, 4).split(2))


def prompted(trunk: Backbone, *, kind: str, seed: int, tokens: int) -> Backbone:
    """The backbone with virtual tokens before every text (a mutator of the network).

    They belong to the lowest layer group. No pooling counts them and no head sees them; texts get
    as much shorter as positions become too few.

    Args:
        trunk: without adapters.
        kind: `prompt` or `prefix`.
        seed: that they are drawn from.
        tokens: how many.

    Raises:
        ValueError: a number out of range, or a network that cannot have them.
    """
    network = trunk.module
    reads = trunk.reads
    of_transformers = trunk.export.get("source") == "transformers"
    if not (of_transformers and isinstance(network, TextNetwork) and isinstance(reads, TextSpec)):
        raise ValueError(
            f"freeze_strategy={kind} puts virtual tokens before a text, for attention to look at; "
            "this backbone is no text network of transformers: choose one (bert_base, gpt2, ...), "
            "or another strategy, such as lora or last_k"
        )
    model: Any = network.model
    if kind == "prefix" and "past_key_values" not in inspect.signature(model.forward).parameters:
        raise ValueError(
            f"freeze_strategy=prefix: {type(model).__name__} takes no keys and values from outside "
            "(past_key_values), by which peft puts a prefix into each layer; use "
            "freeze_strategy=prompt, or a network such as bert, roberta, electra, gpt2 or qwen3"
        )
    if kind == "prompt" and reads.left:
        raise ValueError(
            "freeze_strategy=prompt: padding on the left would stand between the virtual tokens "
            "and their text; use backbone.padding_side=right"
        )
    if tokens < 1:
        raise ValueError(f"freeze_strategy.tokens={tokens}; give 1 or more")
    made = Adapters(kind, (), seed=seed, options={"tokens": tokens})
    reads = _shortened(reads, tokens, model)
    torch.manual_seed(seed)
    network.prompt = Prompt(made, model)

    def grouped(groups: tuple[Group, ...]) -> tuple[Group, ...]:
        lowest = replace(groups[0], parameters=(*groups[0].parameters, PARAMETER))
        return (lowest, *groups[1:])

    return replace(
        trunk,
        groups=grouped(trunk.groups),
        fine_groups=grouped(trunk.fine_groups),
        no_decay=trunk.no_decay | {PARAMETER},  # it does not start near zero
        adapters=(PARAMETER,),
        reads=reads,
        export={**trunk.export, "adapters": as_facts(made)},
    )


def peft_config(made: Adapters, model: Any) -> Any:
    """The config by which peft makes these virtual tokens for a network of transformers.

    peft itself looks for widths that DistilBERT's config calls otherwise, and takes ELECTRA's
    embeddings to be as wide as its layers.
    """
    from peft import PrefixTuningConfig, PromptTuningConfig

    config = model.config
    heads, width = config.num_attention_heads, config.hidden_size
    common = {
        "task_type": "FEATURE_EXTRACTION",
        "num_virtual_tokens": made.options["tokens"],
        "num_layers": config.num_hidden_layers,
        "num_transformer_submodules": 1,
    }
    if made.kind == "prompt":
        width = model.get_input_embeddings().embedding_dim
        return PromptTuningConfig(
            token_dim=width,
            num_attention_heads=heads,
            prompt_tuning_init="SAMPLE_VOCAB",  # better than random numbers (Lester, section 3.2)
            **common,
        )
    each = getattr(config, "head_dim", None) or width // heads
    heads = getattr(config, "num_key_value_heads", None) or heads
    return PrefixTuningConfig(token_dim=each * heads, num_attention_heads=heads, **common)


def _shortened(reads: TextSpec, tokens: int, model: Any) -> TextSpec:
    """The same with texts as long as the network has positions for beside these tokens."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return reads
    room = positions - first_position(model) - tokens
    if room < 1:
        raise ValueError(
            f"freeze_strategy.tokens={tokens} leaves no position of {positions} to a text; give "
            "fewer"
        )
    return replace(reads, max_length=min(reads.max_length, room))
