"""A run's name: a hash of what can change its result."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from tlx.base.secrecy import masked
from tlx.config import changes, defaults, moved, schema
from tlx.config.check import schema_signature, target_nodes
from tlx.config.components import components
from tlx.config.signatures import OPAQUE, Signature, signature
from tlx.config.types import Misfit, conform

Node = Mapping[str, Any]

IDENTITY_VERSION = 1
"""Raised whenever a default changes, so that old and new runs do not share an id."""

EXCLUDED = (
    "name",
    "group",
    "arm",
    "tags",
    "runs_dir",
    "keep",
    "cache",
    "cache_dir",
    "cache_gb",
    "fuse",
    "select_from",
    "study",
    "search",
    "logger",
    "executor",
    "identity_version",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.nodes",
    "trainer.strategy",
    "trainer.workers",
    "trainer.on_oom",
    "trainer.eval_batch_size",
    "trainer.checkpoint_every_steps",
    "trainer.log_every_steps",
    "trainer.timeout_minutes",
)
"""What cannot change the result. Precision, batch size, accumulation, compile and the like can.

`select_from` can: the mark of a changed meaning stands for it, where there are several stages.
"""


def normalise(config: Node) -> dict[str, Any]:
    """The config with numbers and words as annotations want them, and defaults written out.

    `freeze_strategy=scratch` means `backbone.init=none`, and `auto` what `defaults` derives. What
    does not fit is left as it is, for `check` to find. Normalising twice changes nothing.
    """
    return defaults.resolved(_filled(config)).config


def derived(config: Node) -> Mapping[str, str]:
    """Of each value that normalising derives, by its place, where it comes from."""
    return defaults.resolved(_filled(config)).sources


def _filled(config: Node) -> dict[str, Any]:
    """The config with every default that stands in a signature."""
    config = moved.current(config)
    done = {**config, **_completed(config, schema_signature("Config"), fill=True)}
    for key, name in schema.NODES.items():
        node = done.get(key)
        if isinstance(node, Mapping) or (key not in done and key not in schema.OPTIONAL):
            done[key] = _completed(node or {}, schema_signature(name), fill=True)
    for group in schema.LIST_GROUPS:
        entries = done.get(group)
        done[group] = dict(entries) if isinstance(entries, Mapping) else (entries or {})
    for group, place, node in list(target_nodes(done)):
        found = _signature(node)
        if found is None:
            continue
        full = _completed(node, found, fill=True)
        if group in schema.LIST_GROUPS:
            done[group][place.partition(".")[2]] = full
        else:
            done[group] = full
    if _leaf(done.get("freeze_strategy")) == "scratch" and isinstance(
        done.get("backbone"), Mapping
    ):
        done["backbone"] = {**done["backbone"], "init": "none"}
    # no part of the id, and shown wherever the run is
    done |= {key: masked(done[key]) for key in ("name", "group", "arm", "tags") if key in done}
    return done


def run_id(config: Node) -> str:
    """`{dataset}-{backbone}-{strategy}-s{seed}-{10 hex}`: the same for the same experiment.

    `backbone.init=experiment:NAME` is hashed as written: name its run (`run:ID`) first.
    """
    return normalised_id(normalise(config))


def normalised_id(full: Node) -> str:
    """The same for a config that is normalised."""
    words = [_title(full.get(group)) for group in ("dataset", "backbone", "freeze_strategy")]
    text = json.dumps(_essence(full), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return "-".join([*words, f"s{full['seed']}", digest])


def essence(config: Node) -> dict[str, Any]:
    """What is hashed: the normalised config less what is excluded and what is at its default."""
    return _essence(normalise(config))


def _essence(full: Node) -> dict[str, Any]:
    kept = {k: v for k, v in full.items() if k not in (*schema_signature("Config").parameters,)}
    kept |= _less_defaults(full, schema_signature("Config"), only_fields=True)
    for key, name in schema.NODES.items():
        if isinstance(full.get(key), Mapping):
            kept[key] = _less_defaults(full[key], schema_signature(name), prefix=f"{key}.")
    for group, place, node in target_nodes(full):
        found = _signature(node)
        less = _less_defaults(node, found, prefix=f"{place}.") if found else dict(node)
        if isinstance(node.get("_target_"), str):
            less["_target_"] = moved.first(node["_target_"])
        if group in schema.LIST_GROUPS:
            kept[group] = {**kept[group], place.partition(".")[2]: less}
        else:
            kept[group] = less
    for place in EXCLUDED:
        head, _, tail = place.partition(".")
        if not tail:
            kept.pop(head, None)
        elif isinstance(kept.get(head), Mapping):
            kept[head] = {k: v for k, v in kept[head].items() if k != tail}
    # an empty node says nothing, whether it is written or not
    kept = {key: value for key, value in kept.items() if value not in ({}, None)}
    essence = {"identity_version": IDENTITY_VERSION, **{k: _plain(v) for k, v in kept.items()}}
    if marked := changes.marks(full):
        essence["changes"] = marked
    if code := components({key: full[key] for key in full if key not in EXCLUDED}):
        essence["components"] = code
    return essence


def _signature(node: Any) -> Signature | None:
    target = node.get("_target_") if isinstance(node, Mapping) else None
    return signature(target) if isinstance(target, str) else None


def _completed(node: Node, found: Signature, *, fill: bool) -> dict[str, Any]:
    done: dict[str, Any] = {}
    for key, value in node.items():
        parameter = found.parameters.get(str(key))
        done[key] = value
        if parameter is not None:
            try:
                done[key] = conform(value, parameter.annotation, found.aliases)
            except Misfit:
                continue
    if fill:
        for name, parameter in found.parameters.items():
            if name not in done and not parameter.required and parameter.default is not OPAQUE:
                done[name] = _listed(parameter.default)
    return done


def _less_defaults(
    node: Node, found: Signature, *, prefix: str = "", only_fields: bool = False
) -> dict[str, Any]:
    kept = {}
    for key, value in node.items():
        parameter = found.parameters.get(str(key))
        if parameter is None:
            if not only_fields:
                kept[key] = value
            continue
        default = defaults.first_default(f"{prefix}{key}", parameter.default)
        if parameter.required or not _same(value, default):
            kept[key] = value
    return kept


def _same(value: Any, default: Any) -> bool:
    return default is not OPAQUE and _plain(value) == _plain(default)


def _listed(value: Any) -> Any:
    return [_listed(v) for v in value] if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    """A value in one spelling: 1, 1.0 and 1e0 are equal, tuples are lists, keys are text."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _leaf(node: Any) -> str:
    target = node.get("_target_") if isinstance(node, Mapping) else None
    return str(target).rpartition(".")[2] if target else "none"


def _title(node: Any) -> str:
    """A node's word in the id: the name it gives, of a folder its last; else its function's."""
    name = node.get("name") if isinstance(node, Mapping) else None
    if isinstance(name, str) and name.startswith(("/", "~", ".")):
        name = PurePath(name).name
    text = name.partition(".")[0] if isinstance(name, str) and name else _leaf(node)
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:40] or "none"
