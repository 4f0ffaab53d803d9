"""What every pretrained network looks like to the rest of tlx."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from scipy.sparse import csr_array
from torch import Tensor, nn

from tlx.data.inputs import Spec
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


Noted = Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]
"""From the notes on the data and its splits by name to notes that say more."""

POOLED = "pooled"
"""Features of one vector an item, which every backbone gives."""


@dataclass(frozen=True)
class Wanted:
    """What a network is told of the task and the data that it is built for, if it asks.

    Attributes:
        features: what the task reads: `pooled` (one vector an item), `word` or `token`.
        corpus: gives the training data's raw items in the form that a vocabulary is learnt from;
            None: they are not at hand.
        kept: what a finished run that is loaded again read, as `Spec.plain` gave it.
    """

    features: str = POOLED
    corpus: Callable[[], Iterable[str]] | None = None
    kept: Mapping[str, object] | None = None


DEFAULT = Wanted()


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
        reads: what inputs it takes, by which the data's encoder makes them.
        weights_id: identity of the starting weights (content hash), or `none`.
        neck: final norm, pooler, pre-logits parameters.
        embeddings: patch, position, token embedding parameters.
        no_decay: names that the network itself exempts from weight decay.
        adapters: parameters put beside the network's own layers (`tlx.backbones.adapters.peft`).
        export: plain facts that an export needs (`source`, `name`, `kwargs`; `adapters`).
        head_bias: whether a linear head on it has a bias, as the library's own has.
        lm_head: makes a language model's head, from features with `tokens` to a logit for each
            token of the vocabulary [N, T, V]; a weight that it shares with the module goes by the
            module's name alone. None where the network is no language model.
        notes: lines for the log, on what was taken from where.
        account: what became of every key of a weights file, plain; empty for other starts.
        file_heads: weights of that file's own heads, by its names (`init_head=keep`).
        noted: the notes on the data, with what the network has to say of its fitted splits.
        sparse: the pooled features [N, D] of encoded inputs, as a sparse matrix; where there is
            one, most of them are 0.
    """

    module: nn.Module
    features: Callable[[nn.Module, Any], Features]
    groups: tuple[Group, ...]
    fine_groups: tuple[Group, ...]
    head_level: int
    dims: Mapping[str, int]
    reads: Spec
    weights_id: str
    neck: tuple[str, ...] = ()
    embeddings: tuple[str, ...] = ()
    no_decay: frozenset[str] = frozenset()
    adapters: tuple[str, ...] = ()
    export: Mapping[str, Any] = field(default_factory=dict)
    head_bias: bool = True
    lm_head: Callable[[], nn.Module] | None = None
    notes: tuple[str, ...] = ()
    account: Mapping[str, object] = field(default_factory=dict)
    file_heads: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    noted: Noted | None = None
    sparse: Callable[[Iterable[Any]], csr_array] | None = None
