"""Freeze strategies that train small adapters in a frozen network. Standard library only.

The options say which adapters the network gets, as it is built (`tlx.backbones.adapters.peft`);
what is trained is the same for all: the adapters and the head. Norms, biases and the network's own
weights are frozen.
"""

from typing import Annotated

from tlx.base.ranges import Range
from tlx.methods.stages import Layout, Stage


def lora(
    layout: Layout,
    *,
    r: int = 8,
    alpha: float = 8.0,
    dropout: float = 0.0,
    targets: str | None = None,
    layers: int | None = None,
) -> tuple[Stage, ...]:
    """Trains a low-rank change of each adapted weight, W + (alpha / r) B A, and the head.

    Args:
        layout: of the network with its adapters.
        r: rank of the change.
        alpha: its scale, as a multiple of `r`.
        dropout: of the adapters' input.
        targets: regular expression that matches names of linear layers and convolutions in full,
            `backbone.blocks.0.attn.qkv`; null: all linear layers of the blocks, of text networks
            those of attention, and convolutions where the blocks have no linear layer.
        layers: only the last so many layer groups; null: all.

    Raises:
        ValueError: the network has no adapters.

    Source: Hu et al. 2021, "LoRA", 2106.09685, section 4.1; the work is done by peft.

    >>> from tlx.methods.stages import Group, Layout
    >>> groups = (Group("b", ("b.weight", "b.lora_A.weight"), 0), Group("head", ("h.weight",), 1))
    >>> list(lora(Layout(groups, groups, adapters=("b.lora_A.weight",)))[0].trains)
    ['b.lora_A.weight', 'h.weight']
    """
    return _stage("lora", layout)


def dora(
    layout: Layout,
    *,
    r: int = 8,
    alpha: float = 8.0,
    dropout: float = 0.0,
    targets: str | None = None,
    layers: int | None = None,
) -> tuple[Stage, ...]:
    """Trains length and, by a low-rank change, direction of each adapted weight, and the head.

    Args:
        layout: of the network with its adapters.
        r: rank of the change.
        alpha: its scale, as a multiple of `r`.
        dropout: of the adapters' input.
        targets: as of `lora`.
        layers: only the last so many layer groups; null: all.

    Raises:
        ValueError: the network has no adapters.

    Source: Liu et al. 2024, "DoRA", 2402.09353, equation 5.

    >>> from tlx.methods.stages import Group, Layout
    >>> groups = (Group("b", ("b.weight", "b.lora_A.weight"), 0), Group("head", ("h.weight",), 1))
    >>> list(dora(Layout(groups, groups, adapters=("b.lora_A.weight",)))[0].trains)
    ['b.lora_A.weight', 'h.weight']
    """
    return _stage("dora", layout)


def ia3(
    layout: Layout, *, targets: str | None = None, layers: int | None = None
) -> tuple[Stage, ...]:
    """Trains one factor for each feature of the adapted layers, and the head.

    Factors stand at the layers' outputs, and at the inputs of what leads a feed-forward block
    back to its narrow side.

    Args:
        layout: of the network with its adapters.
        targets: as of `lora`; null: keys, values and feed-forward blocks, the whole of attention
            where one layer computes queries too, and convolutions where there is no linear layer.
        layers: only the last so many layer groups; null: all.

    Raises:
        ValueError: the network has no adapters.

    Source: Liu et al. 2022, "Few-Shot Parameter-Efficient Fine-Tuning ...", 2205.05638, 3.3.

    >>> from tlx.methods.stages import Group, Layout
    >>> groups = (Group("b", ("b.weight", "b.ia3_l"), 0), Group("head", ("h.weight",), 1))
    >>> list(ia3(Layout(groups, groups, adapters=("b.ia3_l",)))[0].trains)
    ['b.ia3_l', 'h.weight']
    """
    return _stage("ia3", layout)


def vera(
    layout: Layout,
    *,
    r: int = 256,
    dropout: float = 0.0,
    targets: str | None = None,
    layers: int | None = None,
) -> tuple[Stage, ...]:
    """Trains two scaling vectors a layer, around random projections that all share; and the head.

    Args:
        layout: of the network with its adapters.
        r: rank of the projections, which follow from the run's seed and are in no file.
        dropout: of the adapters' input.
        targets: as of `lora`, but of linear layers only.
        layers: only the last so many layer groups; null: all.

    Raises:
        ValueError: the network has no adapters.

    Source: Kopiczko et al. 2023, "VeRA", 2310.11454, equation 2.

    >>> from tlx.methods.stages import Group, Layout
    >>> groups = (Group("b", ("b.weight", "b.vera_b"), 0), Group("head", ("h.weight",), 1))
    >>> list(vera(Layout(groups, groups, adapters=("b.vera_b",)))[0].trains)
    ['b.vera_b', 'h.weight']
    """
    return _stage("vera", layout)


def prompt(layout: Layout, *, tokens: Annotated[int, Range(least=1)] = 20) -> tuple[Stage, ...]:
    """Trains embeddings of virtual tokens before every text, and the head.

    Args:
        layout: of the network with its virtual tokens.
        tokens: how many; they start at the embeddings of random tokens.

    Raises:
        ValueError: the network has no virtual tokens.

    Source: Lester et al. 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning",
    2104.08691, section 2.

    >>> from tlx.methods.stages import Group, Layout
    >>> groups = (Group("b", ("b.weight", "prompt"), 0), Group("head", ("h.weight",), 1))
    >>> list(prompt(Layout(groups, groups, adapters=("prompt",)))[0].trains)
    ['prompt', 'h.weight']
    """
    return _stage("prompt", layout)


def prefix(layout: Layout, *, tokens: Annotated[int, Range(least=1)] = 20) -> tuple[Stage, ...]:
    """Trains keys and values of virtual tokens in every layer, and the head.

    Args:
        layout: of the network with its virtual tokens.
        tokens: how many; their keys and values start at random.

    Raises:
        ValueError: the network has no virtual tokens.

    Source: Li and Liang 2021, "Prefix-Tuning", 2101.00190, section 4.2, without the network by
    which the paper makes them; Liu et al. 2022, "P-Tuning v2", 2110.07602, of encoders.

    >>> from tlx.methods.stages import Group, Layout
    >>> groups = (Group("b", ("b.weight", "prompt"), 0), Group("head", ("h.weight",), 1))
    >>> list(prefix(Layout(groups, groups, adapters=("prompt",)))[0].trains)
    ['prompt', 'h.weight']
    """
    return _stage("prefix", layout)


def _stage(name: str, layout: Layout) -> tuple[Stage, ...]:
    if not layout.adapters:
        raise ValueError(
            f"{name}: the network has no adapters; put them in first, by "
            "tlx.backbones.adapters.peft.adapted (tlx train does so)"
        )
    wanted = {*layout.adapters, *layout.head.parameters}
    return (Stage(name, {n: 1.0 for n in layout.names if n in wanted}),)
