"""What a network does with tokens to come and with padding, tried on a small copy of it.

Neither follows from the name of a type: some networks without a masked head see the whole text, and
some mix padding into what they give. A copy with narrow layers tells in a fraction of a second.
"""

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import PreTrainedConfig

from tlx.backbones.text import network as text
from tlx.backbones.transformers import trunks
from tlx.backbones.transformers.sources import quiet

MOST_KNOWN = 128
_KNOWN: dict[str, "Evidence"] = {}
LENGTH, LONGER = 10, 14
"""Tokens of the text that is tried, and of the batch in which it is padded."""
CHANGED = 6
"""Position from which on tokens are changed, to see whether earlier outputs notice."""
ROWS = 64
"""Of the copy's vocabulary; its special tokens are moved below, the text is of the highest."""
WORDS = 12
"""Tokens that the text is made of."""
SPREAD = 0.2
"""Of what is added to vectors of weights: gates that start at zero would hide what they let by."""
TOLERANCE = 1e-4
"""Of the largest value: rounding where another length means other kernels."""
MOST_PARAMETERS = 50_000_000
"""Of a copy: more would cost seconds and gigabytes."""
WIDTH, HEAD, LAYERS = 16, 8, 8
"""Of a copy: of its states, of a head of attention; and most layers, in which each kind occurs."""
NARROW: Mapping[str, int] = {
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), WIDTH // HEAD),
    **dict.fromkeys(("num_key_value_heads", "n_head_kv", "num_kv_heads"), 1),
    **dict.fromkeys(("intermediate_size", "hidden_dim", "n_inner", "ffn_dim", "d_inner"), 32),
    **dict.fromkeys(("embedding_size", "head_dim", "d_head", "d_kv"), HEAD),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "index_head_dim"), HEAD),
    **dict.fromkeys(("qk_head_dim", "q_lora_rank", "kv_lora_rank", "moe_intermediate_size"), WIDTH),
    "attention_window": HEAD,
    "rotary_dim": 4,
}
"""Most of a copy's sizes, by the names that configs have for them."""
EXPERTS: Mapping[str, int] = {
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk"), 2),
    **dict.fromkeys(("n_group", "topk_group", "num_group"), 1),
}
UNTOUCHED = ("position", "vocab", "context", "token_id", "length", "n_ctx", "chunk", "layer")
"""Parts of names of numbers that are no widths, whatever their value."""
FAILURES = (
    *(RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError, AssertionError),
    *(LookupError, ArithmeticError, ImportError, StrictDataclassError),
)
"""What networks raise whose parts do not fit together at another size."""


@dataclass(frozen=True)
class Evidence:
    """What was seen of a small copy of a network.

    Attributes:
        causal: whether outputs depend on no later token.
        sides: where padding leaves the features of a text as they are: `right`, `left`.
        missing: why nothing could be seen; empty where it could.
    """

    causal: bool = False
    sides: tuple[str, ...] = ()
    missing: str = ""


def evidence(design: trunks.Design) -> Evidence:
    """What a small copy shows; kept, since a run asks several times."""
    # a rehearsal without texts has another vocabulary, which is no matter of the copy
    stated = {**design.config.to_dict(), "vocab_size": ROWS}
    key = f"{stated} {design.unit} {design.pooling} {design.attention}"
    if key not in _KNOWN:
        if len(_KNOWN) >= MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[key] = _seen(design)
    return _KNOWN[key]


def of_itself(network: text.TextNetwork, config: PreTrainedConfig) -> Evidence:
    """What a network itself shows, where no small copy can be made of it; it is left as it was."""
    training, device = network.training, next(network.parameters()).device
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")
            with device:  # where a rehearsal builds networks without weights, the default is none
                return _tried(network.eval(), config)
    except FAILURES as error:
        return Evidence(missing=_reason(error))
    finally:
        network.train(training)


def _seen(design: trunks.Design) -> Evidence:
    # kernels for GPUs are of no use to a copy on the CPU
    attention = design.attention if design.attention in ("eager", "sdpa") else None
    reasons = []
    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        for most in ({**NARROW, **EXPERTS}, NARROW, None):
            try:
                config = _copy(design.config, most)
                small = trunks.Design(config, design.unit, design.pooling, attention)
                with torch.device("meta"):
                    size = sum(p.numel() for p in trunks.built(small).parameters())
                if size > MOST_PARAMETERS:
                    raise ValueError(f"a copy would still have {size:,} parameters")
                with torch.device("cpu"):
                    return _tried(_drawn(trunks.built(small)), config)
            except FAILURES as error:
                reasons.append(_reason(error))
    return Evidence(missing=reasons[-1])


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()[:200]}"


def _copy(config: PreTrainedConfig, most: Mapping[str, int] | None) -> PreTrainedConfig:
    """The config of a copy, with these as most of its sizes; None: with the network's widths."""
    numbers = {
        name: value
        for name, value in config.to_dict().items()
        if isinstance(value, int) and not isinstance(value, bool)
    }
    small = copy.deepcopy(config)
    if most is not None:
        for name, value in numbers.items():
            width = _narrowed(name, value, config, most)
            if width != value:
                setattr(small, name, width)
        _shorten(small)
    special = sorted(name for name in numbers if name.endswith("token_id"))
    for place, name in enumerate(special, 1):
        if numbers[name] >= ROWS - WORDS:
            setattr(small, name, place)
    small.vocab_size = ROWS
    return small


def _shorten(config: PreTrainedConfig) -> None:
    """Takes layers away from a config, and what it says of them (a mutator)."""
    spans = getattr(config, "attention_window", None)
    if isinstance(spans, list):
        config.attention_window = [min(span, HEAD) for span in spans]
    count = getattr(config, "num_hidden_layers", None)
    if not isinstance(count, int) or count <= LAYERS:
        return
    try:
        config.num_hidden_layers = LAYERS
    except NotImplementedError:  # Funnel's layers are counted in blocks
        return
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == count:
            setattr(config, name, value[:LAYERS])


def _narrowed(name: str, value: int, config: PreTrainedConfig, most: Mapping[str, int]) -> int:
    """A size of the copy, from that of the network."""
    if any(word in name for word in UNTOUCHED):
        return value
    width = int(config.hidden_size)
    heads = getattr(config, "num_attention_heads", None)
    if value > 0 and value % width == 0:  # of the states, or some times as wide
        return min(value, min(value // width, 2) * WIDTH)
    if isinstance(heads, int) and heads > 0 and value == width // heads:
        return min(value, HEAD)
    if "head" in name and value == heads:  # keys and values of as many heads as queries
        return min(value, WIDTH // HEAD)
    return min(value, most.get(name, value))


def _drawn(network: text.TextNetwork) -> text.TextNetwork:
    """The network in eval mode with all parameters drawn anew (a mutator)."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.copy_(noise * parameter[0].numel() ** -0.5)
        else:
            parameter.add_(noise, alpha=SPREAD)
    return network.eval()


def _tried(network: text.TextNetwork, config: PreTrainedConfig) -> Evidence:
    """What the copy does with a text, with another end of it, and in a longer batch.

    Raises:
        ValueError: its outputs are no numbers, or always the same.
    """
    first, words = _first_word(config), min(WORDS, int(config.vocab_size))
    places = torch.arange(LENGTH)[None]
    ids = places * 5 % words + first
    other = torch.where(places < CHANGED, ids, (ids - first + 1) % words + first)
    real = torch.ones_like(ids)
    states, features = _outputs(network, ids, real)
    changed, _ = _outputs(network, other, real)
    if not bool(torch.isfinite(states).all()):
        raise ValueError("the outputs of a copy are no numbers")
    if _same(changed[:, CHANGED:], states[:, CHANGED:]):
        raise ValueError("the outputs of a copy do not depend on its inputs")
    pad = getattr(config, "pad_token_id", None)
    pad = pad if isinstance(pad, int) and 0 <= pad < int(config.vocab_size) else 0
    more = LONGER - LENGTH
    sides = []
    for side, around in {"right": (0, more), "left": (more, 0)}.items():
        longer = nn.functional.pad(ids, around, value=pad)
        found, pooled = _outputs(network, longer, nn.functional.pad(real, around))
        kept = pooled if network.unit == "pooled" else found[:, around[0] : around[0] + LENGTH]
        if _same(kept, features):
            sides.append(side)
    return Evidence(_same(changed[:, :CHANGED], states[:, :CHANGED]), tuple(sides))


def _first_word(config: PreTrainedConfig) -> int:
    """Id of the first of some tokens that are no special ones, the highest there are."""
    special = [
        value
        for name, value in config.to_dict().items()
        if name.endswith("token_id") and isinstance(value, int)
    ]
    first = max(int(config.vocab_size) - WORDS, 0)
    while first > 0 and any(first <= value < first + WORDS for value in special):
        first -= 1
    return first


def _outputs(network: text.TextNetwork, ids: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """States at all tokens, and what a head would read."""
    inputs = {"input_ids": ids, "attention_mask": real.bool()}
    inputs["token_type_ids"] = torch.zeros_like(ids)
    states, own = network.run(network.model, inputs)
    if network.unit != "pooled":
        return states, states
    pooled = own if network.pooling is None else network.pooling(states, real.bool())
    assert pooled is not None
    width = states.shape[-1]
    if width != trunks.state_width(network.model.config):
        raise ValueError(f"its states have {width} numbers, and config.hidden_size says otherwise")
    return states, pooled


def _same(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= TOLERANCE * other.abs().max())
