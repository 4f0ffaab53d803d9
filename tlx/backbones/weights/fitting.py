"""Which of a file's weights goes where in a network: names, prefixes, heads, shapes, all told."""

import difflib
import functools
import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from timm.models import adapt_input_conv
from torch import Tensor, nn

from tlx.backbones.weights.file_heads import COUNTER, COUNTERS, heads_among
from tlx.backbones.weights.key_rules import HEAD_NAMES, RENAME, KeyRules

BY_FILTER = "left out, or made part of another, by timm's filter"
BY_TASK = "a part that the task does not need"
State = dict[str, Tensor]


@dataclass(frozen=True)
class Fit:
    """One attempt at fitting a state to a network.

    Attributes:
        state: what the network gets, by its names.
        dropped: names of the file that are left out -> why.
        heads: those of them that belong to heads, by names without prefixes.
        adapted: names whose shape was fitted.
        missing: names of the network that nothing is found for.
        unexpected: names of the file that nothing is known of.
        mismatched: names with both shapes, in words.
        renamed: timm's own filter was used.
        pairs: name of the file -> name of the network, where that filter changed it.
    """

    state: State
    dropped: Mapping[str, str]
    heads: State
    adapted: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    renamed: bool = False
    pairs: Mapping[str, str] = field(default_factory=dict)

    @property
    def faults(self) -> int:
        """How much is not accounted for."""
        return len(self.missing) + len(self.unexpected) + len(self.mismatched)


def best_prefix(state: Iterable[str], target: Mapping[str, Tensor]) -> str:
    """The prefix under which most of the network's names are found; the shortest of equals."""
    found: Counter[str] = Counter()
    for name in state:
        parts = name.split(".")
        for cut in range(len(parts)):
            if ".".join(parts[cut:]) in target:
                found["".join(part + "." for part in parts[:cut])] += 1
    if not found:
        return ""
    return min(found, key=lambda prefix: (-found[prefix], len(prefix)))


def fitted(module: nn.Module, state: State, prefix: str, rules: KeyRules) -> Fit:
    """The attempt with the fewest faults: plain names, else by timm's filter.

    Args:
        module: the network.
        state: of the file.
        prefix: of the names that are the network's.
        rules: of the person; renaming is done already.
    """
    inside = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    outside = {n: t for n, t in state.items() if not n.startswith(prefix)}
    best = _attempt(module, inside, outside, prefix, rules)
    rename = timm_filter(module) if best.faults else None
    for source, aside in ((inside, outside), (state, {})):
        changed = rename(dict(source)) if rename and best.faults else None
        if changed is None:
            continue
        before = prefix if source is inside else ""
        attempt = _through_filter(module, source, changed, aside, before, rules)
        if attempt.faults < best.faults:
            best = attempt
    return best


def without(fit: Fit, optional: tuple[str, ...]) -> Fit:
    """The fit without what may be missing, or may be there in vain."""
    aside = tuple(name for name in fit.unexpected if name.startswith(optional))
    return replace(
        fit,
        state={name: tensor for name, tensor in fit.state.items() if name not in aside},
        dropped={**fit.dropped, **dict.fromkeys(aside, BY_TASK)},
        missing=tuple(name for name in fit.missing if not name.startswith(optional)),
        unexpected=tuple(name for name in fit.unexpected if name not in aside),
    )


def _through_filter(
    module: nn.Module, source: State, changed: State, outside: State, prefix: str, rules: KeyRules
) -> Fit:
    """The attempt with what timm's filter made of some weights, none of them unaccounted for."""
    old = {id(tensor): name for name, tensor in source.items()}
    origin = {name: old[id(tensor)] for name, tensor in changed.items() if id(tensor) in old}
    fit = _attempt(module, changed, outside, prefix, rules, origin=origin)
    gone = source.keys() - origin.values() - changed.keys()
    adapted = tuple(n for n, t in changed.items() if n in source and source[n].shape != t.shape)
    return replace(
        fit,
        dropped={**fit.dropped, **{f"{prefix}{name}": BY_FILTER for name in sorted(gone)}},
        adapted=tuple(n for n in (*adapted, *fit.adapted) if n in fit.state),
        renamed=True,
        pairs={f"{prefix}{before}": name for name, before in origin.items() if name != before},
    )


def _attempt(
    module: nn.Module,
    inside: State,
    outside: State,
    prefix: str,
    rules: KeyRules,
    *,
    origin: Mapping[str, str] | None = None,
) -> Fit:
    """The weights below the prefix as they are; what the network has no place for is told apart.

    Args:
        module: the network.
        inside: by names without the prefix.
        outside: the other weights of the file.
        prefix: see `inside`.
        rules: of the person.
        origin: the name in the file, without the prefix, of what a filter has renamed.
    """
    target = module.state_dict()
    of_file = {name: f"{prefix}{(origin or {}).get(name, name)}" for name in inside}
    inner = {name: tensor for name, tensor in inside.items() if name not in target}
    parent = f"{prefix.rstrip('.').rpartition('.')[0]}.".lstrip(".")
    beside = {name.removeprefix(parent): tensor for name, tensor in outside.items()}
    reasons = heads_among(inner, module, rules)
    others = heads_among(beside, module, rules, inside=False)
    kept = {name: tensor for name, tensor in inside.items() if name not in reasons}
    kept, resized = _fit_input(module, kept, target)
    mismatched = tuple(
        f"{name}: file {list(kept[name].shape)}, network {list(target[name].shape)}"
        for name in kept
        if name in target and kept[name].shape != target[name].shape
    )
    dropped = {of_file[name]: why for name, why in reasons.items()}
    dropped |= {_under(parent, name, outside): why for name, why in others.items()}
    every = {of_file[name]: tensor for name, tensor in inner.items()} | outside
    return Fit(
        state=kept,
        dropped=dropped,
        heads={name: every[name] for name, why in dropped.items() if why != COUNTER},
        adapted=tuple(n for n in resized if n in target),
        missing=tuple(n for n in target if n not in kept and not n.endswith(COUNTERS)),
        unexpected=(
            *(n for n in kept if n not in target),
            *(n for n in outside if n not in dropped),
        ),
        mismatched=mismatched,
    )


def _under(parent: str, name: str, outside: Mapping[str, Tensor]) -> str:
    """The name in the file of what lies outside the prefix."""
    return f"{parent}{name}" if f"{parent}{name}" in outside else name


def _fit_input(
    module: nn.Module, state: State, target: Mapping[str, Tensor]
) -> tuple[State, tuple[str, ...]]:
    """First layers fitted to the network's number of input channels, by timm's rule."""
    cfg = getattr(module, "pretrained_cfg", None) or {}
    first = cfg.get("first_conv") or ()
    names = tuple(f"{n}.weight" for n in ((first,) if isinstance(first, str) else first))
    changed: State = {}
    for name in names:
        if name not in state or name not in target:
            continue
        there, here = state[name].shape, target[name].shape
        if len(there) == 4 and there[1] == 3 and there != here and there[2:] == here[2:]:
            changed[name] = adapt_input_conv(here[1], state[name])
    return {**state, **changed}, tuple(changed)


def timm_filter(module: nn.Module) -> Callable[[State], State | None] | None:
    """The translation of older or foreign checkpoints that timm has for this architecture, if any.

    timm keeps it beside the class, under one of a few names, and hands it only to its builder.
    """
    for kind in type(module).__mro__:
        names = vars(sys.modules.get(kind.__module__, sys)) if kind.__module__[:4] == "timm" else {}
        for name, function in names.items():
            if "filter" in name and inspect.isfunction(function) and _is_state_filter(function):
                return functools.partial(_filtered, function, module)
    return None


def _is_state_filter(function: Callable[..., Any]) -> bool:
    return next(iter(inspect.signature(function).parameters), "") == "state_dict"


def _filtered(function: Callable[..., Any], module: nn.Module, state: State) -> State | None:
    wants_model = "model" in inspect.signature(function).parameters
    try:
        out = function(state, module) if wants_model else function(state)
    except (KeyError, AttributeError, TypeError, ValueError, RuntimeError, AssertionError):
        return None  # The plain attempt's faults are then what the person is shown.
    return {str(n): t for n, t in out.items() if isinstance(t, Tensor)}


def explain(path: Path, network: str, fit: Fit, prefix: str) -> str:
    """What does not fit, each name with the nearest on the other side, and the ways on."""
    lines = [
        f"{path} does not fit {network}: {len(fit.missing)} missing, "
        f"{len(fit.unexpected)} unexpected, {len(fit.mismatched)} of another shape"
    ]
    if prefix:
        lines.append(f"(names were read below the prefix {prefix!r})")
    candidates = list(fit.unexpected)
    for count, name in enumerate(fit.missing):
        # Comparing names is quadratic: a few dozen suggestions show the pattern.
        near = difflib.get_close_matches(name, candidates, n=1) if count < 24 else []
        lines.append(f"  missing: {name}" + (f" (nearest in the file: {near[0]})" if near else ""))
    for count, name in enumerate(fit.unexpected):
        near = difflib.get_close_matches(name, fit.missing, n=1) if count < 24 else []
        lines.append(f"  unexpected: {name}" + (f" (nearest: {near[0]})" if near else ""))
    lines += [f"  shape: {line}" for line in fit.mismatched]
    lines.append(
        f"Choose the backbone.name these weights belong to; or rename keys, and leave some out, by "
        f"{RENAME}={{'regular expression': text or null}}, and name heads by {HEAD_NAMES}=[name]."
    )
    return "\n".join(lines)
