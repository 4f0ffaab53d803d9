"""Weights of networks: read safely, fitted with every key accounted for, written, identified."""

import argparse
import hashlib
import json
import pickle
import socket
import threading
import urllib.parse
import urllib.request
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
import torch
from huggingface_hub import constants as hub
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from tlx.backbones.adapters import peft as adapters
from tlx.backbones.weights import fitting, key_rules
from tlx.backbones.weights import kinds as weight_kinds
from tlx.backbones.weights.key_rules import NO_RULES, KeyRules
from tlx.base import bounds, durable, sealed

SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".th", ".ckpt")
"""Usual ends of names, by which weights are found in a folder; a file that is given has any."""
CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model", "teacher", "network", "weights")
OF_TRAINING = ("optim", "sched", "lr_sched", "scaler", "rng", "callbacks", "loops")
"""Beginnings of the keys of a checkpoint that hold no network."""
DEEPEST = 4
"""Keys, one in the other, under which weights are looked for."""
TRUNK_FORMAT = "tlx-trunk-1"
HUB_TIMEOUT_S = 7.0
"""Longer than the 5 s after which a resolver turns to its second name server."""
State = dict[str, Tensor]


class WeightsError(ValueError):
    """A weights file that cannot be read safely, or does not fit the network."""


class NotFetched(RuntimeError):
    """Something of the hub that could not be fetched."""


@dataclass(frozen=True)
class LoadReport:
    """What became of every key of a weights file.

    Attributes:
        path: the file.
        container: key of the file that held the weights, `state_dict`, or empty.
        prefix: what was cut from the names, `module.`, or empty.
        loaded: names that were copied into the network.
        dropped: keys of the file that were left out on purpose.
        adapted: names whose shape was fitted (input channels, position embeddings).
        defaulted: batch counters and optional parts that the file lacks and the network keeps.
        renamed: timm's own filter for older or foreign names was used.
        reasons: of each dropped key, the rule that left it out.
        pairs: key of the file -> name in the network, beyond the prefix.
        heads: weights of the file's heads, which are among what was dropped.
    """

    path: str
    container: str
    prefix: str
    loaded: tuple[str, ...]
    dropped: tuple[str, ...]
    adapted: tuple[str, ...]
    defaulted: tuple[str, ...]
    renamed: bool
    reasons: Mapping[str, str] = field(default_factory=dict)
    pairs: Mapping[str, str] = field(default_factory=dict)
    heads: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def account(self) -> dict[str, object]:
        """Every key of the file and of the network, plain, for the record."""
        rules: dict[str, list[str]] = {}
        for name, rule in self.reasons.items():
            rules.setdefault(rule, []).append(name)
        told = {
            "container": self.container,
            "prefix": self.prefix,
            "loaded": len(self.loaded),
            "renamed": dict(self.pairs),
            "dropped": rules,
            "adapted": list(self.adapted),
            "kept_as_built": list(self.defaulted),
        }
        return {key: value for key, value in told.items() if value not in ("", [], {})}


def require_resolved(init: str, allowed: str) -> None:
    """Raises ValueError where a start is a run's or an experiment's, and not yet a file."""
    if init.startswith(("run:", "experiment:")):
        raise ValueError(
            f"backbone.init={init!r} must be resolved to a weights file before the backbone is "
            f"built (tlx train does so); allowed here: {allowed}"
        )


def require_own(init: str, network: str) -> None:
    """Passes the start of a network that is nobody's on the hub: `none`, or a file that is there.

    Raises:
        ValueError: the hub's weights, or those of a run that is no file yet.
        FileNotFoundError: there is no such file.
    """
    if init == "hub":
        raise ValueError(
            f"backbone.init=hub: no weights of {network} are known on the hub; give none, run:ID, "
            "experiment:NAME or a file"
        )
    require_resolved(init, "none, a file")
    if init != "none" and not Path(init).is_file():
        raise FileNotFoundError(f"backbone.init={init!r} is no file; allowed: none, run:ID, a file")


def load(
    module: nn.Module,
    path: str | Path,
    *,
    optional: tuple[str, ...] = (),
    rules: KeyRules = NO_RULES,
) -> LoadReport:
    """Copies a file's weights into the network, in place, and says what became of every key.

    Wrappers' prefixes (`module.`, `_orig_mod.`, `network.backbone.`) are cut, heads dropped, first
    layers fitted to other input channels, and timm's filter of the architecture used where plain
    names or shapes don't fit (older names, position embeddings of another size). A run's adapters
    are merged.

    Args:
        module: the network.
        path: the file.
        optional: beginnings of names that the file may lack, or have where the network does not.
        rules: of the person, for the file's names.

    Raises:
        WeightsError: the file holds code, is broken, or does not account for every weight.
    """
    found = _matched(module, Path(path), optional, rules)
    fit, target = found.fit, module.state_dict()
    _check_numbers(fit.state, target, path)
    defaulted = tuple(name for name in target if name not in fit.state)
    module.load_state_dict({**fit.state, **{name: target[name] for name in defaulted}})
    dropped = {**found.renamed.dropped, **fit.dropped}
    return LoadReport(
        path=str(path),
        container=found.container,
        prefix=found.prefix,
        loaded=tuple(fit.state),
        dropped=tuple(dropped),
        adapted=fit.adapted,
        defaulted=defaulted,
        renamed=fit.renamed,
        reasons=dropped,
        pairs={**found.renamed.pairs, **fit.pairs},
        heads=fit.heads,
    )


def _check_numbers(state: State, target: State, path: str | Path) -> None:
    """Raises a WeightsError where copying would cut numbers off, or copies what is none."""
    for name, tensor in state.items():
        whole = not tensor.is_floating_point() and target[name].is_floating_point()
        if whole or tensor.is_complex():
            raise WeightsError(
                f"{path}: {name} is {str(tensor.dtype).removeprefix('torch.')} (quantized?), and "
                "the network computes with floats; give the plain weights"
            )
        if tensor.is_floating_point() and tensor.isnan().any():
            raise WeightsError(f"{path}: {name} holds values that are no numbers (nan)")


@dataclass(frozen=True)
class _Match:
    """A file's weights, held against a network's names."""

    fit: fitting.Fit
    renamed: key_rules.Renamed
    prefix: str
    container: str


def _matched(module: nn.Module, path: Path, optional: tuple[str, ...], rules: KeyRules) -> _Match:
    file_state, metadata, container = _read(path)
    _check_architecture(module, metadata, path)
    try:
        file_state = _merged(module, file_state, metadata, path)
        renamed = key_rules.renamed(file_state, rules.rename)
        prefix = fitting.best_prefix(renamed.state, module.state_dict())
        fit = fitting.without(fitting.fitted(module, renamed.state, prefix, rules), optional)
        if not fit.faults:
            key_rules.check_heads(rules, fit.dropped, renamed.state)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error
    if fit.faults:
        network = _architecture(module) or type(module).__name__
        raise WeightsError(fitting.explain(path, network, fit, prefix))
    return _Match(fit, renamed, prefix, container)


def _merged(module: nn.Module, state: State, metadata: Mapping[str, str], path: Path) -> State:
    """The weights with a run's adapters merged, where it has some.

    Raises:
        ValueError: they are no layers of this network, or virtual tokens.
    """
    made = adapters.of_file(metadata)
    if made is None:
        return state
    if made.kind in adapters.PROMPTS:
        raise ValueError(
            f"it is of a run with virtual tokens (freeze_strategy={made.kind}), which no other "
            "network's weights can hold; start from what it started from, its own weights are those"
        )
    try:
        return adapters.merged_state(module, state, made)
    except ValueError as error:
        raise ValueError(f"{error}; choose the same backbone.name") from error


def save_trunk(module: nn.Module, path: str | Path, *, metadata: Mapping[str, object]) -> None:
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
    sealed.check(path)  # of a run's
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {str(path)!r}")
    if said := weight_kinds.refusal(path):
        raise WeightsError(said)
    if weight_kinds.kind_of(path) == weight_kinds.SAFETENSORS:
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
                bounds.require_names(list(file.keys()), path)
            return safetensors.torch.load_file(str(path)), metadata, ""
        except SafetensorError as error:
            raise WeightsError(f"{path} is no intact safetensors file: {error}") from error
    content, container = _unwrapped(_unpickled(path))
    bad = [str(name) for name, value in content.items() if _holds_tensors(value)]
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if bad or not state:
        raise WeightsError(
            f"{path} holds no plain mapping of names to tensors"
            + (f"; these hold further ones: {', '.join(bad)}" if bad else ", or none at all")
            + ". Save the one that is wanted by itself, with torch.save"
        )
    if sparse := [name for name, tensor in state.items() if tensor.layout != torch.strided]:
        raise WeightsError(
            f"{path}: {sparse[0]} is a sparse tensor; save its to_dense() in its place"
        )
    bounds.require_names(state, path)
    bounds.require_stored(sum(t.numel() * t.element_size() for t in _once(state)), path)
    return state, {}, container


def _once(state: State) -> Iterator[Tensor]:
    """The tensors without a second view of the same memory, which tied weights are."""
    yield from {(t.data_ptr(), t.shape): t for t in state.values()}.values()


def _holds_tensors(value: object) -> bool:
    """Whether a value is no tensor, and has some in it, however deep."""
    left = [] if isinstance(value, Tensor) else [value]
    known: set[int] = set()  # a few lists in one another may stand for any number of them
    while left:
        each = left.pop()
        if id(each) in known:
            continue
        known.add(id(each))
        if isinstance(each, Tensor):
            return True
        if isinstance(each, Mapping):
            left += each.values()
        elif isinstance(each, list | tuple):
            left += each
    return False


def _unpickled(path: Path) -> object:
    """A torch file's content, by the reader that executes nothing."""
    bounds.require_unpacked(path)
    try:
        # timm's training checkpoints carry their arguments: a class without behaviour.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            with path.open("rb") as file:  # of a path torch.load believes the suffix
                return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds more than tensors, and loading it would execute code: refused, nothing "
            "was executed. Convert it where you trust it: "
            "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is no intact torch weights file: {error}") from error


def _unwrapped(
    content: object, known: frozenset[int] | set[int] = frozenset(), *, depth: int = 0
) -> tuple[Mapping[object, object], str]:
    """The mapping of names to tensors in a file's content, and the keys that lead to it.

    Where several may be meant, the content itself, which its reader then refuses.

    Args:
        content: of the file.
        known: identities of mappings that were looked into; they may lie in one another.
        depth: of the content in the file.
    """
    if not isinstance(content, Mapping) or depth > DEEPEST or id(content) in known:
        return {}, ""
    known = known if isinstance(known, set) else set()
    known.add(id(content))
    for key in CONTAINERS:
        inner, below = _unwrapped(content.get(key), known, depth=depth + 1)
        if _has_tensors(inner):
            return inner, f"{key}.{below}".rstrip(".")
    if _has_tensors(content):
        return content, ""
    found = [
        (inner, f"{key}.{below}".rstrip("."))
        for key, value in content.items()
        if not str(key).startswith(OF_TRAINING)
        for inner, below in [_unwrapped(value, known, depth=depth + 1)]
        if _has_tensors(inner)
    ]
    return found[0] if len(found) == 1 else (content, "")


def _has_tensors(content: Mapping[object, object]) -> bool:
    return any(isinstance(value, Tensor) for value in content.values())


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
