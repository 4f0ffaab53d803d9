"""Freeze strategies: from a network's layout to stages. Standard library only.

Every strategy fits every budget: a stage's end is a fraction of the run unless steps or epochs
are asked for, of which at most one may be given. `plateau` ends a stage early, after so many
validations without improvement; `restore_best` starts the next one from the stage's best weights.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

from tlx.base.ranges import Range
from tlx.methods.stages import Group, Layout, Stage, Until, check, matching

Policy = Literal["follow", "freeze", "train"]


def scratch(layout: Layout) -> tuple[Stage, ...]:
    """Trains everything, from random weights: the run's `backbone.init` becomes `none`.

    >>> from tlx.methods.stages import layout_of
    >>> list(scratch(layout_of({"stem": ["conv.weight"], "head": ["fc.weight"]}))[0].trains)
    ['conv.weight', 'fc.weight']
    """
    return full(layout)


def full(layout: Layout) -> tuple[Stage, ...]:
    """Trains everything at one learning rate.

    >>> from tlx.methods.stages import layout_of
    >>> list(full(layout_of({"stem": ["conv.weight"], "head": ["fc.weight"]}))[0].trains)
    ['conv.weight', 'fc.weight']
    """
    return (Stage("all", _scaled(layout.names)),)


def linear_probe(layout: Layout) -> tuple[Stage, ...]:
    """Trains the head alone.

    Source: Kornblith et al. 2018, "Do Better ImageNet Models Transfer Better?", section 3.

    >>> from tlx.methods.stages import layout_of
    >>> list(linear_probe(layout_of({"stem": ["conv.weight"], "head": ["fc.weight"]}))[0].trains)
    ['fc.weight']
    """
    return (Stage("head", _scaled(layout.head.parameters)),)


def last_layer(layout: Layout) -> tuple[Stage, ...]:
    """Trains the head and the neck just below it: final norm, pooler, pre-logits layers.

    A network without a neck, such as a ResNet, trains its head alone.

    >>> from tlx.methods.stages import Group, Layout
    >>> groups = (Group("top", ("conv.weight", "norm.weight"), 0), Group("head", ("fc.weight",), 1))
    >>> list(last_layer(Layout(groups, groups, neck=("norm.weight",)))[0].trains)
    ['norm.weight', 'fc.weight']
    """
    return (Stage("last layer", _scaled(_union(layout, layout.neck))),)


def last_k(layout: Layout, *, k: int = 1) -> tuple[Stage, ...]:
    """Trains the head and the top `k` layer groups below it; the neck trains with the top one.

    Raises:
        ValueError: `k` is not in 1 ... number of groups below neck and head.

    >>> from tlx.methods.stages import layout_of
    >>> layout = layout_of({"stem": ["a.weight"], "top": ["b.weight"], "head": ["c.weight"]})
    >>> list(last_k(layout, k=1)[0].trains)
    ['b.weight', 'c.weight']
    """
    trunk = _checked_trunk(layout, k)
    top = trunk[len(trunk) - k :]
    return (Stage(f"last {k}", _scaled((*_names(top), *layout.head.parameters))),)


def freeze_first_k(layout: Layout, *, k: int = 1) -> tuple[Stage, ...]:
    """Freezes the first `k` layer groups, the stem first, and trains the others.

    The neck trains, or is frozen, with the top group.

    Raises:
        ValueError: `k` is not in 1 ... number of groups below neck and head.

    >>> from tlx.methods.stages import layout_of
    >>> layout = layout_of({"stem": ["a.weight"], "top": ["b.weight"], "head": ["c.weight"]})
    >>> list(freeze_first_k(layout, k=1)[0].trains)
    ['b.weight', 'c.weight']
    """
    groups = (*_checked_trunk(layout, k), layout.head)
    return (Stage(f"{groups[k].name}+", _scaled(_names(groups[k:]))),)


def surgical(
    layout: Layout,
    *,
    first: Annotated[int | str, Range()] = 0,
    last: Annotated[int | str | None, Range()] = None,
    head: bool = True,
) -> tuple[Stage, ...]:
    """Trains one run of neighbouring layer groups, and the head.

    Args:
        layout: of the network.
        first: lowest group that trains, by name, or by number with 0 for the stem and -1 for
            the group just below the head.
        last: highest group that trains, likewise; null: the same as `first`.
        head: whether the head trains too.

    Raises:
        ValueError: there is no such group, or `last` lies below `first`.

    Source: Lee et al. 2022, "Surgical Fine-Tuning Improves Adaptation to Distribution Shifts",
    which trains one block and, where the label set stays, not the head.

    >>> from tlx.methods.stages import layout_of
    >>> layout = layout_of({"stem": ["a.weight"], "top": ["b.weight"], "head": ["c.weight"]})
    >>> list(surgical(layout, first="stem")[0].trains)
    ['a.weight', 'c.weight']
    """
    low = _index(layout, "first", first)
    high = low if last is None else _index(layout, "last", last)
    if high < low:
        raise ValueError(f"surgical: last={last!r} lies below first={first!r}; swap them")
    chosen = layout.groups[low : high + 1]
    name = chosen[0].name if low == high else f"{chosen[0].name}…{chosen[-1].name}"
    names = _names(chosen)
    return (Stage(name, _scaled(_union(layout, names) if head else names)),)


def pattern(
    layout: Layout, *, patterns: list[str], lr_scales: list[float] | None = None, head: bool = True
) -> tuple[Stage, ...]:
    r"""Trains the parameters that regular expressions match in full, and the head.

    Args:
        layout: of the network.
        patterns: on full names such as `backbone.layer4.0.conv1.weight`; the first that matches
            a name decides its scale.
        lr_scales: learning-rate scale of each pattern; null: 1.
        head: whether the head trains too, at 1 unless a pattern says otherwise.

    Raises:
        ValueError: a pattern matches nothing, or the scales are not as many as the patterns.

    >>> from tlx.methods.stages import layout_of
    >>> layout = layout_of({"stem": ["a.weight", "a.bias"], "head": ["head.weight"]})
    >>> dict(pattern(layout, patterns=[r".*\.bias"], lr_scales=[0.5])[0].trains)
    {'a.bias': 0.5, 'head.weight': 1.0}
    """
    scales = [1.0] * len(patterns) if lr_scales is None else lr_scales
    if not patterns or len(scales) != len(patterns):
        raise ValueError(
            f"pattern: {len(patterns)} patterns and {len(scales)} lr_scales; give at least one "
            "pattern, and a scale for each or none at all"
        )
    found: dict[str, float] = {}
    for rule, scale in zip(patterns, scales, strict=True):
        for name in matching(rule, layout.names):
            found.setdefault(name, scale)
    if head:
        found = {**_scaled(layout.head.parameters), **found}
    trains = {name: found[name] for name in layout.names if name in found}
    return _checked(layout, [Stage("pattern", trains)])


def norm_only(layout: Layout, *, head: bool = True) -> tuple[Stage, ...]:
    """Trains the affine parameters of normalisation layers, and the head.

    Raises:
        ValueError: the network has none.

    Source: Frankle et al. 2020, "Training BatchNorm and Only BatchNorm", 2003.00152.

    >>> from tlx.methods.stages import Group, Layout
    >>> groups = (Group("stem", ("conv.weight", "bn.weight"), 0), Group("head", ("fc.weight",), 1))
    >>> list(norm_only(Layout(groups, groups, norms=("bn.weight",)))[0].trains)
    ['bn.weight', 'fc.weight']
    """
    below = set(layout.norms) - set(layout.head.parameters)
    if not below:
        raise ValueError(
            "norm_only: the network has no normalisation parameters below its head; take bitfit, "
            "last_k or linear_probe"
        )
    names = _union(layout, layout.norms) if head else _ordered(layout, below)
    return (Stage("norms", _scaled(names)),)


def bitfit(layout: Layout, *, head: bool = True) -> tuple[Stage, ...]:
    """Trains the biases, and the head; wants about ten times the learning rate of `full`.

    In a convolutional network with batch normalisation the biases are those of its norms.

    Raises:
        ValueError: the network has none.

    Source: Ben-Zaken et al. 2021, "BitFit", 2106.10199.

    >>> from tlx.methods.stages import layout_of
    >>> layout = layout_of({"stem": ["a.weight", "a.bias"], "head": ["head.weight"]})
    >>> list(bitfit(layout)[0].trains)
    ['a.bias', 'head.weight']
    """
    own = set(layout.head.parameters)
    biases = [
        name
        for name in layout.names
        if (name.endswith("bias") or name.rpartition(".")[2].startswith("bias_"))
        and name not in own
    ]
    if not biases:
        raise ValueError(
            "bitfit: the network has no biases below its head; take norm_only, last_k or "
            "linear_probe"
        )
    return (Stage("biases", _scaled(_union(layout, biases) if head else biases)),)


def lp_ft(
    layout: Layout,
    *,
    head_fraction: float | None = None,
    head_epochs: float | None = None,
    head_steps: int | None = None,
    full_lr_scale: float = 0.1,
    plateau: int | None = None,
    restore_best: bool = False,
) -> tuple[Stage, ...]:
    """Trains the head, then everything at a lower learning rate.

    Args:
        layout: of the network.
        head_fraction: share of the run that the head trains alone; with none of the three, 0.5.
        head_epochs: the same in epochs.
        head_steps: the same in optimizer steps.
        full_lr_scale: learning-rate scale of the second stage.
        plateau: validations without improvement that end the first stage early.
        restore_best: start the second stage from the best weights on validation.

    Raises:
        ValueError: the head's share is given twice.

    Source: Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features", section 4.

    >>> from tlx.methods.stages import layout_of
    >>> layout = layout_of({"stem": ["a.weight"], "head": ["head.weight"]})
    >>> [(s.name, dict(s.trains), s.until.fraction) for s in lp_ft(layout)]
    ... # doctest: +NORMALIZE_WHITESPACE
    [('head', {'head.weight': 1.0}, 0.5), ('all', {'a.weight': 0.1, 'head.weight': 0.1}, None)]
    """
    until = _until(
        "head",
        fraction=head_fraction,
        epochs=head_epochs,
        steps=head_steps,
        default=0.5,
        plateau=plateau,
    )
    head = Stage("head", _scaled(layout.head.parameters), until, restore_best)
    return _checked(layout, [head, Stage("all", _scaled(layout.names, full_lr_scale))])


def gradual(
    layout: Layout,
    *,
    every_fraction: float | None = None,
    every_epochs: float | None = None,
    every_steps: int | None = None,
    stages: Annotated[int | None, Range(least=1)] = None,
    decay: float = 1.0,
    plateau: int | None = None,
    restore_best: bool = False,
) -> tuple[Stage, ...]:
    """Trains the head, then thaws one layer group a stage from the top down, then trains on.

    Args:
        layout: of the network.
        every_fraction: share of the run between two thaws; with none of the three, the thaws
            are spread evenly over the first half of the run.
        every_epochs: the same in epochs (ULMFiT: 1).
        every_steps: the same in optimizer steps.
        stages: how many stages in all, so that several groups thaw at once; None: one a group.
        decay: each layer group learns at the rate of the one above over this (ULMFiT: 2.6).
        plateau: validations without improvement that thaw the next group early.
        restore_best: start each stage from the best weights on validation of the one before.

    Raises:
        ValueError: the time between thaws is given twice; `stages` is not in 2 ... groups, `decay`
            not above 0.

    Source: Howard and Ruder 2018, "ULMFiT", sections 3.2 and 3.3.

    >>> from tlx.methods.stages import layout_of
    >>> layout = layout_of({"stem": ["a.weight"], "top": ["b.weight"], "head": ["c.weight"]})
    >>> [(s.name, list(s.trains), s.until.fraction) for s in gradual(layout)]
    ... # doctest: +NORMALIZE_WHITESPACE
    [('head', ['c.weight'], 0.25), ('top+', ['b.weight', 'c.weight'], 0.25),
     ('all', ['a.weight', 'b.weight', 'c.weight'], None)]
    """
    groups = layout.groups
    count = len(groups) if stages is None else stages
    if not min(2, len(groups)) <= count <= len(groups):
        raise ValueError(
            f"freeze_strategy.stages={stages}; give 2 to {len(groups)}, the number of layer groups"
        )
    until = _until(
        "every",
        fraction=every_fraction,
        epochs=every_epochs,
        steps=every_steps,
        default=0.5 / max(count - 1, 1),
        plateau=plateau,
    )
    top = len(groups) - 1
    lowest = [top - round(stage * top / max(count - 1, 1)) for stage in range(count)]
    parts = [(f"{groups[i].name}+", groups[i:]) for i in lowest]
    parts[0] = ("head", groups[top:])
    parts[-1] = ("all", groups)
    return _sequence(parts, until, restore_best, rates=_slower_below(layout, decay))


def chain_thaw(
    layout: Layout,
    *,
    every_fraction: float | None = None,
    every_epochs: float | None = None,
    every_steps: int | None = None,
    plateau: int | None = None,
    restore_best: bool = False,
    head: bool = False,
) -> tuple[Stage, ...]:
    """Trains the head, then each layer group alone from the stem up, then everything.

    Args:
        layout: of the network.
        every_fraction: share of the run of each stage but the last; with none of the three, they
            share the first half of the run evenly.
        every_epochs: the same in epochs.
        every_steps: the same in optimizer steps.
        plateau: validations without improvement that end a stage early.
        restore_best: start each stage from the best weights on validation of the one before.
        head: whether the head trains along with each group (the paper: no).

    Raises:
        ValueError: the stages' time is given twice.

    Source: Felbo et al. 2017, "Using millions of emoji occurrences ...", section 3.3, which ends
    stages by convergence on validation.

    >>> from tlx.methods.stages import layout_of
    >>> layout = layout_of({"stem": ["a.weight"], "top": ["b.weight"], "head": ["c.weight"]})
    >>> [(s.name, list(s.trains)) for s in chain_thaw(layout)]
    ... # doctest: +NORMALIZE_WHITESPACE
    [('head', ['c.weight']), ('stem', ['a.weight']), ('top', ['b.weight']),
     ('all', ['a.weight', 'b.weight', 'c.weight'])]
    """
    groups = layout.groups
    until = _until(
        "every",
        fraction=every_fraction,
        epochs=every_epochs,
        steps=every_steps,
        default=0.5 / len(groups),
        plateau=plateau,
    )
    beside = groups[-1:] if head else ()
    alone = [(group.name, (group, *beside)) for group in groups[:-1]]
    return _sequence([("head", groups[-1:]), *alone, ("all", groups)], until, restore_best)


def freeze_unfreeze(
    layout: Layout,
    *,
    head_fraction: float | None = None,
    head_epochs: float | None = None,
    head_steps: int | None = None,
    lr_mult: float = 100.0,
    train_norms: bool = True,
    plateau: int | None = None,
    restore_best: bool = False,
) -> tuple[Stage, ...]:
    """Trains head and norms, then everything at rates that fall geometrically to the stem.

    Args:
        layout: of the network.
        head_fraction: share of the run of the first stage; with none of the three, 0.2.
        head_epochs: the same in epochs (fastai: 1).
        head_steps: the same in optimizer steps.
        lr_mult: in the second stage, the head's learning rate over the stem's.
        train_norms: whether normalisation trains in the first stage, at a tenth of the rate.
        plateau: validations without improvement that end the first stage early.
        restore_best: start the second stage from the best weights on validation.

    Raises:
        ValueError: the first stage's share is given twice, or `lr_mult` is not above 0.

    Source: fastai's `Learner.fine_tune`: the base rate is halved at the second stage and spread
    over [lr / lr_mult, lr]; fastai counts three layer groups, we count those of the layout.

    >>> from tlx.methods.stages import layout_of
    >>> layout = layout_of({"stem": ["a.weight"], "top": ["b.weight"], "head": ["c.weight"]})
    >>> {n: round(s, 3) for n, s in freeze_unfreeze(layout)[1].trains.items()}
    {'a.weight': 0.005, 'b.weight': 0.05, 'c.weight': 0.5}
    """
    if not lr_mult > 0:
        raise ValueError(f"freeze_unfreeze: lr_mult={lr_mult}; give a number above 0")
    until = _until(
        "head",
        fraction=head_fraction,
        epochs=head_epochs,
        steps=head_steps,
        default=0.2,
        plateau=plateau,
    )
    norms = _scaled(layout.norms, 0.1) if train_norms else {}
    found = {**norms, **_scaled(layout.head.parameters)}
    first = {name: found[name] for name in layout.names if name in found}
    top = max(len(layout.groups) - 1, 1)
    rates = {
        name: 0.5 * lr_mult ** -((len(layout.groups) - 1 - depth) / top)
        for depth, group in enumerate(layout.groups)
        for name in group.parameters
    }
    stages = [Stage("head", first, until, restore_best), Stage("all", rates)]
    return _checked(layout, stages)


def discriminative(layout: Layout, *, decay: float = 2.6) -> tuple[Stage, ...]:
    """Trains everything, each layer group at the learning rate of the one above over `decay`.

    Raises:
        ValueError: `decay` is not above 0.

    Source: Howard and Ruder 2018, "ULMFiT", section 3.2.

    >>> from tlx.methods.stages import layout_of
    >>> layout = layout_of({"stem": ["a.weight"], "top": ["b.weight"], "head": ["c.weight"]})
    >>> dict(discriminative(layout, decay=2.0)[0].trains)
    {'a.weight': 0.25, 'b.weight': 0.5, 'c.weight': 1.0}
    """
    return _checked(layout, [Stage("all", _slower_below(layout, decay))])


def freezeout(
    layout: Layout,
    *,
    t0: float = 0.8,
    how: Literal["linear", "cubic"] = "cubic",
    scale_lr: bool = True,
) -> tuple[Stage, ...]:
    """Trains everything and freezes group after group from the stem up, each on its own cosine.

    Group i of L below the head is annealed to 0 and frozen at t_i of the run, where t_i goes
    evenly from `t0` at the stem to 1 at the head.

    Args:
        layout: of the network.
        t0: when the stem freezes, in (0, 1), before cubing.
        how: `cubic` takes t_i cubed: the stem freezes at 0.51 of the run for t0 of 0.8.
        scale_lr: divides a group's learning rate by its t_i, so that all go the same way in all.

    Raises:
        ValueError: `t0` is not in (0, 1), or `how` is unknown.

    Source: Brock et al. 2017, "FreezeOut", 1706.04983, equation 1 and section 3.

    >>> from tlx.methods.stages import layout_of
    >>> layout = layout_of({"stem": ["a.weight"], "head": ["b.weight"]})
    >>> [(s.name, dict(s.trains), dict(s.anneal)) for s in freezeout(layout, t0=0.5, how="linear")]
    ... # doctest: +NORMALIZE_WHITESPACE
    [('all', {'a.weight': 2.0, 'b.weight': 1.0}, {'a.weight': 0.5, 'b.weight': 1.0}),
     ('head', {'b.weight': 1.0}, {'b.weight': 1.0})]
    """
    if not 0 < t0 < 1:
        raise ValueError(f"freezeout: t0={t0}; give a fraction of the run in (0, 1)")
    if how not in ("linear", "cubic"):
        raise ValueError(f"freezeout: how={how!r}; give 'linear' or 'cubic'")
    groups, top = layout.groups, max(len(layout.groups) - 1, 1)
    power = 3 if how == "cubic" else 1
    ends = [(t0 + (1 - t0) * depth / top) ** power for depth in range(len(groups))]
    ends[-1] = 1.0
    anneal = {n: end for g, end in zip(groups, ends, strict=True) for n in g.parameters}
    stages = []
    for depth, end in enumerate(ends):
        names = _names(groups[depth:])
        before = ends[depth - 1] if depth else 0.0
        last = depth == len(groups) - 1
        stages.append(
            Stage(
                "all" if depth == 0 else "head" if last else f"{groups[depth].name}+",
                {name: 1 / anneal[name] if scale_lr else 1.0 for name in names},
                Until() if last else Until(fraction=end - before),
                anneal={name: anneal[name] for name in names},
            )
        )
    return tuple(stages)


def with_modes(
    stages: Sequence[Stage],
    layout: Layout,
    *,
    norm_affine: Policy = "follow",
    embeddings: Policy = "follow",
) -> tuple[Stage, ...]:
    """The stages with norms and embeddings frozen or trained in all of them, whatever the rules.

    What is trained beyond the rules trains at a learning-rate scale of 1. The head is new, so its
    own norms always follow.

    Args:
        stages: of a strategy.
        layout: of the network.
        norm_affine: of affine parameters of normalisation layers.
        embeddings: of patch, position and token embeddings.

    Raises:
        ValueError: a policy is unknown, or leaves a stage with nothing to train.

    >>> from tlx.methods.stages import Group, Layout
    >>> groups = (Group("stem", ("conv.weight", "bn.weight"), 0), Group("head", ("fc.weight",), 1))
    >>> layout = Layout(groups, groups, norms=("bn.weight",))
    >>> list(with_modes(linear_probe(layout), layout, norm_affine="train")[0].trains)
    ['bn.weight', 'fc.weight']
    """
    own = set(layout.head.parameters)
    frozen: set[str] = set()
    added: set[str] = set()
    knobs = (
        ("norm_affine", norm_affine, layout.norms),
        ("embeddings", embeddings, layout.embeddings),
    )
    for knob, policy, names in knobs:
        if policy not in ("follow", "freeze", "train"):
            raise ValueError(f"frozen.{knob}={policy!r}; give follow, freeze or train")
        if policy != "follow":
            (frozen if policy == "freeze" else added).update(set(names) - own)
    if norm_affine == "train":  # a norm of the embeddings is in both lists: the word on norms wins
        frozen -= set(layout.norms)
    added -= frozen
    return _checked(layout, [_with(stage, layout, frozen, added) for stage in stages])


def _with(stage: Stage, layout: Layout, frozen: set[str], added: set[str]) -> Stage:
    wanted = {**dict.fromkeys(added, 1.0), **stage.trains}
    trains = {n: wanted[n] for n in layout.names if n in wanted and n not in frozen}
    anneal = {name: end for name, end in stage.anneal.items() if name in trains}
    return replace(stage, trains=trains, anneal=anneal)


def _checked(layout: Layout, stages: Sequence[Stage]) -> tuple[Stage, ...]:
    check(stages, layout)
    return tuple(stages)


def _scaled(names: Iterable[str], scale: float = 1.0) -> dict[str, float]:
    return dict.fromkeys(names, scale)


def _names(groups: Sequence[Group]) -> tuple[str, ...]:
    return tuple(name for group in groups for name in group.parameters)


def _ordered(layout: Layout, names: Iterable[str]) -> tuple[str, ...]:
    wanted = set(names)
    return tuple(name for name in layout.names if name in wanted)


def _union(layout: Layout, names: Iterable[str]) -> tuple[str, ...]:
    """The names and the head's, in the order of the network."""
    return _ordered(layout, (*names, *layout.head.parameters))


def _checked_trunk(layout: Layout, k: int) -> tuple[Group, ...]:
    """The layer groups that `k` counts: those below the head, the neck being part of the top one.

    Some networks have a group of nothing but neck, such as a final norm of a thousand parameters,
    and others have theirs in the last block: counted apart, the same k would mean two things.
    """
    *trunk, _ = layout.groups
    neck = set(layout.neck)
    while len(trunk) > 1 and neck.issuperset(trunk[-1].parameters):
        above = trunk.pop()
        trunk[-1] = replace(trunk[-1], parameters=(*trunk[-1].parameters, *above.parameters))
    names = [group.name for group in trunk]
    if not 1 <= k <= len(names):
        raise ValueError(
            f"k={k}; the network has {len(names)} layer groups below its head "
            f"({', '.join(names)}): give 1 to {len(names)}"
        )
    return tuple(trunk)


def _index(layout: Layout, argument: str, group: int | str) -> int:
    """Position of a group below the head, given by name or number."""
    names = [g.name for g in layout.groups[:-1]]
    if isinstance(group, str) and group in names:
        return names.index(group)
    if isinstance(group, int) and -len(names) <= group < len(names):
        return group % len(names)
    raise ValueError(
        f"surgical: {argument}={group!r} is no layer group; give one of {', '.join(names)}, or a "
        f"number from 0 to {len(names) - 1}"
    )


def _until(
    what: str,
    *,
    fraction: float | None,
    epochs: float | None,
    steps: int | None,
    default: float,
    plateau: int | None,
) -> Until:
    given: Mapping[str, float | None] = {"fraction": fraction, "epochs": epochs, "steps": steps}
    named = [f"{what}_{unit}={value}" for unit, value in given.items() if value is not None]
    if len(named) > 1:
        raise ValueError(f"{' and '.join(named)} are given; keep one and set the others to null")
    if not named:
        fraction = default
    return Until(steps=steps, epochs=epochs, fraction=fraction, plateau=plateau)


def _slower_below(layout: Layout, decay: float) -> dict[str, float]:
    """Factors of the rate: each layer group's is that of the one above over `decay`."""
    if not decay > 0:
        raise ValueError(
            f"freeze_strategy.decay={decay}; give a number above 0, above 1 to slow the stem"
        )
    top = len(layout.groups) - 1
    return {
        name: decay ** (depth - top)
        for depth, group in enumerate(layout.groups)
        for name in group.parameters
    }


def _sequence(
    parts: Sequence[tuple[str, Sequence[Group]]],
    until: Until,
    restore_best: bool,
    *,
    rates: Mapping[str, float] | None = None,
) -> tuple[Stage, ...]:
    """Stages of equal length, and a last one that takes the rest."""

    def trains(groups: Sequence[Group]) -> dict[str, float]:
        return {name: (rates or {}).get(name, 1.0) for name in _names(groups)}

    stages = [Stage(n, trains(groups), until, restore_best) for n, groups in parts[:-1]]
    name, groups = parts[-1]
    return (*stages, Stage(name, trains(groups)))
