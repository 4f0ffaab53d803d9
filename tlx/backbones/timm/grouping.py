"""Layer groups of a timm network, stem to top, with names that a person would use."""

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any

from timm.models import group_parameters
from torch import nn

from tlx.methods.stages import Group

EMBEDDING = re.compile(
    r"(patch_embed(?!\.backbone)|(abs(olute)?_)?pos_embed\w*|pos_embed|cls_token|reg_token|"
    r"dist_token|mask_token|register_tokens|embeds?|embeddings?)(\..*)?"
)
BLOCK = re.compile(r"(.*\.)?(blocks|layers|stages)\.\d+\..*")
NECK = re.compile(
    r"(norm|fc_norm|norm_head|attn_pool|pooler|pre_logits|conv_head|final_conv|head|"
    r"features\.norm5)\..*"
)


def layer_groups(
    trunk: nn.Module, full: nn.Module
) -> tuple[tuple[Group, ...], tuple[Group, ...], int, tuple[str, ...]]:
    """Coarse groups, fine groups, the head's level among the fine ones, and the neck's names.

    Fine levels are those of `timm.optim.param_groups_layer_decay` on the full model, so that
    `decay ** (head_level - level)` is its scale. Coarse groups count 0, 1, 2, …, one each.

    Args:
        trunk: the network without classifier: its parameters are grouped.
        full: the same network with a classifier (the meta device will do).
    """
    names = [name for name, _ in trunk.named_parameters()]
    matcher: Callable[..., Any] | None = getattr(full, "group_matcher", None)
    if matcher is None:
        return _by_structure(trunk, names)
    fine_level = group_parameters(full, matcher(coarse=False), reverse=True)
    head_level = _head_level(fine_level, names)
    neck = neck_names(names, above=[n for n in names if fine_level.get(n) == head_level])
    fine = _named(_collect(names, fine_level), neck)
    coarse_level = _coarse_levels(full, matcher, fine_level)
    top = _head_level(coarse_level, names)
    coarse = _join_norms(trunk, _collect(names, coarse_level), keep=top)
    ordered = {i: members for i, members in enumerate(coarse.values())}
    return _named(ordered, neck), fine, head_level, neck


def neck_names(names: Sequence[str], above: Collection[str]) -> tuple[str, ...]:
    """Parameters between the last block and the head: final norm, pooler, pre-logits.

    Args:
        names: all parameter names of the trunk.
        above: those known to lie above the blocks already.
    """
    mobile = any(name.startswith("conv_head.") for name in names)
    return tuple(
        name
        for name in names
        if (name in above and not BLOCK.fullmatch(name))
        or NECK.fullmatch(name)
        or (mobile and name.startswith("bn2."))
    )


def embedding_names(names: Sequence[str]) -> tuple[str, ...]:
    """Patch, position and token embeddings, by timm's names.

    >>> embedding_names(["cls_token", "patch_embed.proj.weight", "blocks.0.norm1.weight"])
    ('cls_token', 'patch_embed.proj.weight')
    """
    return tuple(name for name in names if EMBEDDING.fullmatch(name))


def _by_structure(
    trunk: nn.Module, names: Sequence[str]
) -> tuple[tuple[Group, ...], tuple[Group, ...], int, tuple[str, ...]]:
    """What `layer_groups` gives, of a network whose author stated no groups (MetaFormer, PiT).

    The parts of its main sequence are the coarse groups, their blocks the fine ones; what is
    registered before is the stem, what comes after the neck.
    """
    stages = _main_sequence(trunk)
    if not stages:
        logging.getLogger(__name__).warning(
            "%s has no group_matcher, and no sequence of stages: all its parameters are one layer "
            "group, and layer-wise decay only separates trunk and head",
            type(trunk).__name__,
        )
        group = (Group("trunk", tuple(names), 0),)
        return group, group, 1, neck_names(names, above=())
    coarse: dict[str, int] = {}
    fine: dict[str, int] = {}
    level = 0
    for depth, stage in enumerate(stages, start=1):
        inside = [name for name in names if name.startswith(f"{stage}.")]
        blocks = [f"{stage}.{part}" for part in _main_sequence(trunk.get_submodule(stage))]
        level += 1
        for name in inside:
            # what precedes the blocks of a stage, as its downsampling, goes with the first
            while blocks[1:] and name.startswith(f"{blocks[1]}."):
                level, blocks = level + 1, blocks[1:]
            coarse[name], fine[name] = depth, level
    first = min(names.index(name) for name in coarse)
    above = [name for name in names[first:] if name not in coarse]
    for name in names[:first]:
        coarse[name] = fine[name] = 0
    for name in above:
        coarse[name], fine[name] = len(stages) + 1, level + 1
    neck = neck_names(names, above=above)
    return (
        _named(_collect(names, coarse), neck),
        _named(_collect(names, fine), neck),
        level + 1,
        neck,
    )


def _main_sequence(module: nn.Module) -> list[str]:
    """Names of the parts of the child that has most parameters, where it is a list of modules.

    A list of modules is its own child. Empty where it is no list, or of fewer than two parts.
    """
    sizes = {
        name: sum(parameter.numel() for parameter in child.parameters())
        for name, child in module.named_children()
    }
    parts = [name for name, size in sizes.items() if size]
    if isinstance(module, nn.Sequential | nn.ModuleList):
        return parts if len(parts) > 1 else []
    if not parts:
        return []
    largest = max(parts, key=sizes.__getitem__)
    child = module.get_submodule(largest)
    if not isinstance(child, nn.Sequential | nn.ModuleList):
        return []
    return [f"{largest}.{part}" for part in _main_sequence(child)]


def _coarse_levels(
    full: nn.Module, matcher: Callable[..., Any], fine: dict[str, int]
) -> dict[str, int]:
    """Parameter -> coarse group; the fine one where timm has no coarse matcher (RDNet)."""
    try:
        coarse = matcher(coarse=True)
    except AssertionError:
        return fine
    return dict(group_parameters(full, coarse, reverse=True))


def _head_level(level: dict[str, int], trunk: Sequence[str]) -> int:
    known = set(trunk)
    heads = [value for name, value in level.items() if name not in known]
    return max(heads) if heads else max(level.values()) + 1


def _collect(names: Sequence[str], level: dict[str, int]) -> dict[int, list[str]]:
    """Level -> names, in the order of levels; a name the map lacks joins the last trunk level."""
    last = max(level[name] for name in names if name in level)
    members: dict[int, list[str]] = defaultdict(list)
    for name in names:
        members[level.get(name, last)].append(name)
    return dict(sorted(members.items()))


def _join_norms(
    module: nn.Module, members: dict[int, list[str]], *, keep: int
) -> dict[int, list[str]]:
    """A group of nothing but normalisation joins the one before (VGG lists them apart)."""
    joined: dict[int, list[str]] = {}
    for level, names in members.items():
        owners = {name.rpartition(".")[0] for name in names}
        norms = all("norm" in type(module.get_submodule(o)).__name__.lower() for o in owners)
        if norms and joined and level != keep:
            joined[max(joined)].extend(names)
        else:
            joined[level] = list(names)
    return joined


def _named(members: dict[int, list[str]], neck: Sequence[str]) -> tuple[Group, ...]:
    groups: list[Group] = []
    taken: set[str] = set()
    for level, names in members.items():
        others = [n for other, ns in members.items() if other != level for n in ns]
        first = not groups and len(members) > 1
        name = "stem" if first else _name(names, others, neck)
        while name in taken:
            name += "+"
        taken.add(name)
        groups.append(Group(name, tuple(names), level))
    return tuple(groups)


def _name(names: Sequence[str], others: Sequence[str], neck: Sequence[str]) -> str:
    """The shortest dotted prefix of the first parameter that no other group's share."""
    aside = set(neck) | set(embedding_names(names))
    core = [name for name in names if name not in aside]
    if not core:
        return "neck" if set(names) <= set(neck) else _name_of(names, others)
    return _name_of(core, others)


def _name_of(names: Sequence[str], others: Sequence[str]) -> str:
    path = names[0].split(".")[:-1] or [names[0]]
    for depth in range(1, len(path) + 1):
        prefix = ".".join(path[:depth])
        if not any(o == prefix or o.startswith(prefix + ".") for o in others):
            return prefix
    return ".".join(path)
