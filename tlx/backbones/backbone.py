"""What every pretrained network looks like to the rest of tlx."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scipy.sparse import csr_array
from torch import Tensor, nn

from tlx.methods.stages import Group


class ArgumentRefused(ValueError):
    """A network does not take an argument.

    Attributes:
        argument: its name.
    """

    def __init__(self, argument: str, message: str) -> None:
        """Says why."""
        super().__init__(message)
        self.argument = argument


@dataclass(frozen=True)
class Features:
    """What a backbone gives a head; which fields are set depends on the backbone.

    Attributes:
        pooled: [N, D], one vector an item.
        tokens: [N, T, D], one vector a position, with `mask` [N, T] (True = real) where padded.
        mask: [N, T] or None.
        pyramid: feature maps, fine to coarse, [N, C, H, W] each.
    """

    pooled: Tensor | None = None
    tokens: Tensor | None = None
    mask: Tensor | None = None
    pyramid: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What a network of texts is told of the task and the data that it is built for.

    Attributes:
        unit: what the task reads: `pooled` (one vector an item), `word` or `token`.
        texts: of training, from which a vocabulary may be learnt; None: they are not at hand.
        tokenizer: of a finished run that is loaded again, as JSON.
    """

    unit: str = "pooled"
    texts: Callable[[], Iterable[str]] | None = None
    tokenizer: str | None = None


DEFAULT = Reading()


@dataclass(frozen=True)
class Backbone:
    """A pretrained network without its head, and what must be known to fine-tune it.

    Names of parameters are those of `module.named_parameters()` (no `backbone.` prefix here).

    Attributes:
        module: the network itself, unwrapped, so that parameter names are its own.
        features: (module, inputs) -> Features.
        groups: coarse layer groups, stem to top, without the head; levels count from 0.
        fine_groups: the finest useful groups, for layer-wise decay.
        head_level: level of the head in `fine_groups` (a neck may share it).
        dims: width of each kind of feature, `{"pooled": 512}` or `{"tokens": 768}`.
        input_spec: what the encoder of the data needs, as a plain mapping with `kind`
            (`image`: `size` [C, H, W], `mean`, `std`, `interpolation`, `crop_pct`; `text`:
            `tokenizer` as JSON, `max_length`, `pad_id`, `padding_side`, `type_ids`; of
            language models `causal`, `mask_id`, `vocabulary`).
        weights_id: identity of the starting weights (content hash), or `none`.
        neck: final norm, pooler, pre-logits parameters.
        embeddings: patch, position, token embedding parameters.
        no_decay: names that the network itself exempts from weight decay.
        adapters: parameters put beside the network's own layers (`tlx.backbones.adapters.peft`).
        export: plain facts that an export needs (`source`, `name`, `kwargs`; `adapters`).
        lm_head: makes a language model's head, from features with `tokens` to a logit for each
            token of the vocabulary [N, T, V]; a weight that it shares with the module goes by the
            module's name alone. None where the network is no language model.
        notes: lines for the log, on what was taken from where.
        account: what became of every key of a weights file, plain; empty for other starts.
        file_heads: weights of that file's own heads, by its names (`init_head=keep`).
        unknown: tells of token ids [T] which stand for words that the network knows nothing of,
            where these are more than the tokenizer's unknown one.
        sparse: the pooled features [N, D] of texts, given as token ids, as a sparse matrix; where
            there is one, most of them are 0.
    """

    module: nn.Module
    features: Callable[[nn.Module, Any], Features]
    groups: tuple[Group, ...]
    fine_groups: tuple[Group, ...]
    head_level: int
    dims: Mapping[str, int]
    input_spec: Mapping[str, Any]
    weights_id: str
    neck: tuple[str, ...] = ()
    embeddings: tuple[str, ...] = ()
    no_decay: frozenset[str] = frozenset()
    adapters: tuple[str, ...] = ()
    export: Mapping[str, Any] = field(default_factory=dict)
    lm_head: Callable[[], nn.Module] | None = None
    notes: tuple[str, ...] = ()
    account: Mapping[str, Any] = field(default_factory=dict)
    file_heads: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    unknown: Callable[[Tensor], Tensor] | None = None
    sparse: Callable[[Iterable[Sequence[int]]], csr_array] | None = None
