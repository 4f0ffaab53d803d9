"""Weights of networks: read safely, fitted with every key accounted for, written, identified."""

import argparse
import difflib
import functools
import hashlib
import inspect
import json
import pickle
import socket
import sys
import threading
import urllib.parse
import urllib.request
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from huggingface_hub import constants as hub
from safetensors import SafetensorError, safe_open
from timm.models import adapt_input_conv
from torch import Tensor, nn

from tlx import bounds, durable
from tlx.backbones import adapters

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model", "teacher", "network", "weights")
HEADS = frozenset(
    {
        *("head", "heads", "fc", "classifier", "head_dist", "last_linear"),
        *("AuxLogits", "aux", "aux1", "aux2", "aux_head"),
    }
)
TRUNK_FORMAT = "tlx-trunk-1"
HUB_TIMEOUT_S = 7.0
"""Longer than the 5 s after which a resolver turns to its second name server."""
State = dict[str, Tensor]


class WeightsError(ValueError):
    """A weights file that cannot be read safely, or does not fit the network."""


@dataclass(frozen=True)
class LoadReport:
    """What became of every key of a weights file.

    Attributes:
        path: the file.
        container: key of the file that held the weights, `state_dict`, or empty.
        prefix: what was cut from the names, `module.`, or empty.
        loaded: names that were copied into the network.
        dropped: keys of the file's classifiers and auxiliary heads, left out on purpose.
        adapted: names whose shape was fitted (input channels, position embeddings).
        defaulted: batch counters and optional parts that the file lacks and the network keeps.
        renamed: timm's own filter for older or foreign names was used.
    """

    path: str
    container: str
    prefix: str
    loaded: tuple[str, ...]
    dropped: tuple[str, ...]
    adapted: tuple[str, ...]
    defaulted: tuple[str, ...]
    renamed: bool


@dataclass(frozen=True)
class _Fit:
    """One attempt at fitting a state to a network."""

    state: State
    dropped: tuple[str, ...]
    adapted: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    renamed: bool = False

    @property
    def faults(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.mismatched)


def load(module: nn.Module, path: str | Path, *, optional: tuple[str, ...] = ()) -> LoadReport:
    """Copies a file's weights into the network, in place, and says what became of every key.

    Wrappers' prefixes (`module.`, `_orig_mod.`, `network.backbone.`) are cut, classifiers
    dropped, first layers fitted to other input channels, and timm's filter of the architecture
    used where plain names or shapes don't fit (older names, position embeddings of another size).
    A run's adapters are merged.

    Args:
        module: the network.
        path: the file.
        optional: beginnings of names that the file may lack, or have where the network does not.

    Raises:
        WeightsError: the file holds code, is broken, or does not account for every weight.
    """
    path = Path(path)
    file_state, metadata, container = _read(path)
    _check_architecture(module, metadata, path)
    made = adapters.of_file(metadata)
    if made is not None and made.kind in adapters.PROMPTS:
        raise WeightsError(
            f"{path} is of a run with virtual tokens (freeze_strategy={made.kind}), which no other "
            "network's weights can hold; start from what it started from, its own weights are those"
        )
    if made is not None:
        try:
            file_state = adapters.merged_state(module, file_state, made)
        except ValueError as error:
            raise WeightsError(f"{path}: {error}; choose the same backbone.name") from error
    target = module.state_dict()
    prefix = _best_prefix(file_state, target)
    fit = _without(_fitted(module, file_state, prefix), optional)
    if fit.faults:
        raise WeightsError(_explain(path, module, fit, prefix))
    defaulted = tuple(name for name in target if name not in fit.state)
    module.load_state_dict({**fit.state, **{name: target[name] for name in defaulted}})
    return LoadReport(
        path=str(path),
        container=container,
        prefix=prefix,
        loaded=tuple(fit.state),
        dropped=fit.dropped,
        adapted=fit.adapted,
        defaulted=defaulted,
        renamed=fit.renamed,
    )


def save_trunk(module: nn.Module, path: str | Path, *, metadata: Mapping[str, Any]) -> None:
    """Writes the network's weights, atomically, so that `load` can check where they belong.

    Args:
        module: the trunk.
        path: a .safetensors file.
        metadata: plain facts, such as timm's `name` and `kwargs`.
    """
    facts = {"tlx": TRUNK_FORMAT, "facts": json.dumps(dict(metadata), sort_keys=True)}
    architecture = _architecture(module)
    if architecture:
        facts["architecture"] = architecture
    write(module.state_dict(), path, metadata=facts)


def write(state: Mapping[str, Tensor], path: str | Path, *, metadata: Mapping[str, str]) -> None:
    """Writes tensors as safetensors, as `durable.write` does."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"weights are written as .safetensors, not {path.name!r}")
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in state.items()}
    durable.write(path, safetensors.torch.save(tensors, metadata=dict(metadata)))


def content_id(source: nn.Module | str | Path) -> str:
    """SHA-256 over names, types, shapes and bytes of all tensors, of a network or of a file."""
    state = source.state_dict() if isinstance(source, nn.Module) else _read(Path(source))[0]
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def trunk_facts(path: str | Path) -> dict[str, Any]:
    """What `save_trunk` was told about a file; empty for files of other origin."""
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata() or {}
    facts: dict[str, Any] = json.loads(metadata.get("facts", "{}"))
    return facts


@contextmanager
def hub_or_cache() -> Iterator[str]:
    """Has huggingface_hub use its cache alone where its host cannot be reached (a mutator).

    Without it, what is not in the cache is asked for again and again for a minute; these retries
    have no setting. Gives the reason why the hub is left alone, else an empty text.
    """
    if hub.HF_HUB_OFFLINE or hub_answers(hub.ENDPOINT, timeout_s=HUB_TIMEOUT_S):
        yield ""
        return
    hub.HF_HUB_OFFLINE = True
    try:
        yield f"no connection to {hub.ENDPOINT} within {HUB_TIMEOUT_S:g} s"
    finally:
        hub.HF_HUB_OFFLINE = False


def hub_answers(url: str, *, timeout_s: float) -> bool:
    """Whether a host takes a connection in time; in a thread, since looking up a name has no limit.

    A host behind a proxy counts as there: what a proxy cannot reach fails without retries.
    """
    parts = urllib.parse.urlsplit(url)
    host, port = parts.hostname, parts.port or (80 if parts.scheme == "http" else 443)
    if host is None or {parts.scheme, "all"} & urllib.request.getproxies().keys():
        return True
    done, answered = threading.Event(), threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=timeout_s).close()
            answered.set()
        except (OSError, UnicodeError):
            pass
        finally:
            done.set()

    threading.Thread(target=connect, daemon=True, name="hub-probe").start()
    done.wait(timeout_s)
    return answered.is_set()


def _read(path: Path) -> tuple[State, Mapping[str, str], str]:
    """Tensors of a file by name, its metadata, and the container they were found in."""
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {str(path)!r}")
    if path.suffix == ".safetensors":
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
            return safetensors.torch.load_file(str(path)), metadata, ""
        except SafetensorError as error:
            raise WeightsError(f"{path} is no intact safetensors file: {error}") from error
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path}: weights files end in {', '.join(SUFFIXES)}")
    content, container = _unwrapped(_unpickled(path))
    bad = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if bad or not content:
        raise WeightsError(
            f"{path} holds no plain mapping of names to tensors; these are no tensors: "
            f"{', '.join(bad) or '(it is empty)'}"
        )
    return {str(name): value for name, value in content.items()}, {}, container


def _unpickled(path: Path) -> Any:
    """A torch file's content, by the reader that executes nothing."""
    bounds.require_unpacked(path)
    try:
        # timm's training checkpoints carry their arguments: a class without behaviour.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds more than tensors, and loading it would execute code: refused, nothing "
            "was executed. Convert it where you trust it: "
            "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is no intact torch weights file: {error}") from error


def _unwrapped(content: Any) -> tuple[Mapping[Any, Any], str]:
    if not isinstance(content, Mapping):
        return {}, ""
    for key in CONTAINERS:
        inner = content.get(key)
        if isinstance(inner, Mapping) and any(isinstance(v, Tensor) for v in inner.values()):
            return inner, key
    return content, ""


def _architecture(module: nn.Module) -> str:
    cfg = getattr(module, "pretrained_cfg", None) or {}
    return str(cfg.get("architecture") or "")


def _check_architecture(module: nn.Module, metadata: Mapping[str, str], path: Path) -> None:
    there, here = metadata.get("architecture", ""), _architecture(module)
    if metadata.get("tlx") == TRUNK_FORMAT and there and here and there != here:
        raise WeightsError(
            f"{path} holds the trunk of {there!r}, but the backbone is {here!r}; "
            "choose the same backbone.name as the run it comes from"
        )


def _best_prefix(state: Iterable[str], target: Mapping[str, Tensor]) -> str:
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


def _fitted(module: nn.Module, state: State, prefix: str) -> _Fit:
    """The attempt with the fewest faults: plain names, else by timm's filter."""
    inside = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    outside = {n: t for n, t in state.items() if not n.startswith(prefix)}
    parent = prefix.rstrip(".").rpartition(".")[0]
    heads = tuple(n for n in outside if _is_head(n.removeprefix(f"{parent}.") if parent else n))
    strangers = tuple(n for n in outside if n not in heads)
    best = _attempt(module, inside, heads, strangers)
    rename = _timm_filter(module) if best.faults else None
    for source, aside, left in ((inside, heads, strangers), (state, (), ())):
        renamed = rename(dict(source)) if rename and best.faults else None
        if renamed is None:
            continue
        adapted = tuple(n for n, t in renamed.items() if n in source and source[n].shape != t.shape)
        attempt = _attempt(module, renamed, aside, left, adapted=adapted, renamed=True)
        if attempt.faults < best.faults:
            best = attempt
    return best


def _without(fit: _Fit, optional: tuple[str, ...]) -> _Fit:
    """The fit without what may be missing, or may be there in vain."""
    aside = tuple(name for name in fit.unexpected if name.startswith(optional))
    return replace(
        fit,
        state={name: tensor for name, tensor in fit.state.items() if name not in aside},
        dropped=fit.dropped + aside,
        missing=tuple(name for name in fit.missing if not name.startswith(optional)),
        unexpected=tuple(name for name in fit.unexpected if name not in aside),
    )


def _attempt(
    module: nn.Module,
    state: State,
    dropped: tuple[str, ...],
    strangers: tuple[str, ...],
    *,
    adapted: tuple[str, ...] = (),
    renamed: bool = False,
) -> _Fit:
    target = module.state_dict()
    classifiers = _classifiers(module)
    tops = {name.partition(".")[0] for name in target}
    heads = tuple(
        name
        for name in state
        if name not in target
        and (
            name.startswith(classifiers) or (_is_head(name) and name.partition(".")[0] not in tops)
        )
    )
    kept = {name: tensor for name, tensor in state.items() if name not in heads}
    kept, fitted = _fit_input(module, kept, target)
    shapes = tuple(
        f"{name}: file {list(kept[name].shape)}, network {list(target[name].shape)}"
        for name in kept
        if name in target and kept[name].shape != target[name].shape
    )
    return _Fit(
        state=kept,
        dropped=dropped + heads,
        adapted=tuple(n for n in (*adapted, *fitted) if n in target),
        missing=tuple(n for n in target if n not in kept and not n.endswith("num_batches_tracked")),
        unexpected=tuple(n for n in kept if n not in target) + strangers,
        mismatched=shapes,
        renamed=renamed,
    )


def _is_head(name: str) -> bool:
    return name.partition(".")[0] in HEADS


def _classifiers(module: nn.Module) -> tuple[str, ...]:
    cfg = getattr(module, "pretrained_cfg", None) or {}
    named = cfg.get("classifier") or ()
    named = (named,) if isinstance(named, str) else tuple(named)
    return tuple(f"{name}." for name in named)


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


def _timm_filter(module: nn.Module) -> Callable[[State], State | None] | None:
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


def _explain(path: Path, module: nn.Module, fit: _Fit, prefix: str) -> str:
    network = _architecture(module) or type(module).__name__
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
    lines.append("Choose the backbone.name these weights belong to, or rename the keys.")
    return "\n".join(lines)
