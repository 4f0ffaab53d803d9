"""A run's name: a hash of what can change its result."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import PurePath

from tlx.base.nodes import Node, leaf, mapping, node_at, target_of
from tlx.base.secrecy import masked
from tlx.config import changes, defaults, moved, schema
from tlx.config.check import schema_signature
from tlx.config.components import components
from tlx.config.signatures import OPAQUE, Signature, signature
from tlx.config.types import Misfit, conform

IDENTITY_VERSION = 1
"""Raised whenever a default changes, so that old and new runs do not share an id."""

EXCLUDED = (
    *("name", "group", "arm", "tags", "runs_dir", "keep", "cache", "cache_dir", "cache_gb", "fuse"),
    *("select_from", "study", "search", "logger", "executor", "identity_version"),
    *("trainer.accelerator", "trainer.devices", "trainer.nodes", "trainer.strategy"),
    *("trainer.workers", "trainer.on_oom", "trainer.eval_batch_size", "trainer.timeout_minutes"),
    *("trainer.checkpoint_every_steps", "trainer.log_every_steps"),
)
"""What cannot change the result. Precision, batch size, accumulation, compile and the like can.

`select_from` can: the mark of a changed meaning stands for it, where there are several stages.
"""


def normalise(config: Node) -> dict[str, object]:
    """The config with numbers and words as annotations want them, and defaults written out.

    `freeze_strategy=scratch` means `backbone.init=none`, and `auto` what `defaults` derives. What
    does not fit is left as it is, for `check` to find. Normalising twice changes nothing.
    """
    return defaults.resolved(_filled(config)).config


def derived(config: Node) -> Mapping[str, str]:
    """Of each value that normalising derives, by its place, where it comes from."""
    return defaults.resolved(_filled(config)).sources


def _filled(config: Node) -> dict[str, object]:
    """The config with every default that stands in a signature."""
    config = moved.current(config)
    done = {**config, **_completed(config, schema_signature("Config"))}
    for key, name in schema.NODES.items():
        node = done.get(key)
        if isinstance(node, Mapping) or (key not in done and key not in schema.OPTIONAL):
            done[key] = _completed(mapping(node), schema_signature(name))
    for group in schema.LIST_GROUPS:
        entries = done.get(group) or {}
        if isinstance(entries, Mapping):
            entries = {key: _call(node) for key, node in entries.items()}
        done[group] = entries
    done |= {group: _call(done[group]) for group in schema.TARGET_GROUPS if group in done}
    if leaf(done.get("freeze_strategy")) == "scratch" and "backbone" in done:
        done["backbone"] = {**node_at(done, "backbone"), "init": "none"}
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
    words = [_title(node_at(full, group)) for group in ("dataset", "backbone", "freeze_strategy")]
    text = json.dumps(_essence(full), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return "-".join([*words, f"s{full['seed']}", digest])


def essence(config: Node) -> dict[str, object]:
    """What is hashed: the normalised config less what is excluded and what is at its default."""
    return _essence(normalise(config))


def _essence(full: Node) -> dict[str, object]:
    kept = {k: v for k, v in full.items() if k not in (*schema_signature("Config").parameters,)}
    kept |= _less_defaults(full, schema_signature("Config"), only_fields=True)
    for key, node in full.items():
        if not isinstance(node, Mapping):
            continue
        if key in schema.NODES:
            of_node = schema_signature(schema.NODES[key])
            kept[key] = _less_defaults(node, of_node, prefix=f"{key}.")
        elif key in schema.TARGET_GROUPS:
            kept[key] = _said(node, key)
        elif key in schema.LIST_GROUPS:
            kept[key] = {name: _said(mapping(one), f"{key}.{name}") for name, one in node.items()}
    for place in EXCLUDED:
        head, _, tail = place.partition(".")
        if not tail:
            kept.pop(head, None)
        elif head in kept:
            kept[head] = {k: v for k, v in node_at(kept, head).items() if k != tail}
    # an empty node says nothing, whether it is written or not
    kept = {key: value for key, value in kept.items() if value not in ({}, None)}
    essence = {"identity_version": IDENTITY_VERSION, **{k: _plain(v) for k, v in kept.items()}}
    if marked := changes.marks(full):
        essence["changes"] = marked
    if code := components({key: full[key] for key in full if key not in EXCLUDED}):
        essence["components"] = code
    return essence


def _call(node: object) -> object:
    """A node that is a call, with the defaults of its function; any other as it is."""
    found = signature(target_of(node))
    return _completed(mapping(node), found) if found else node


def _said(node: Node, place: str) -> dict[str, object]:
    """What a call says that is not at its default, under the name that its function had first."""
    target = target_of(node)
    found = signature(target)
    less = _less_defaults(node, found, prefix=f"{place}.") if found else dict(node)
    return {**less, "_target_": moved.first(target)} if target else less


def _completed(node: Node, found: Signature) -> dict[str, object]:
    done: dict[str, object] = {}
    for key, value in node.items():
        parameter = found.parameters.get(str(key))
        done[key] = value
        if parameter is not None:
            try:
                done[key] = conform(value, parameter.annotation, found.aliases)
            except Misfit:
                continue
    for name, parameter in found.parameters.items():
        if name not in done and not parameter.required and parameter.default is not OPAQUE:
            done[name] = _listed(parameter.default)
    return done


def _less_defaults(
    node: Node, found: Signature, *, prefix: str = "", only_fields: bool = False
) -> dict[str, object]:
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


def _same(value: object, default: object) -> bool:
    return default is not OPAQUE and _plain(value) == _plain(default)


def _listed(value: object) -> object:
    return [_listed(v) for v in value] if isinstance(value, list | tuple) else value


def _plain(value: object) -> object:
    """A value in one spelling: 1, 1.0 and 1e0 are equal, tuples are lists, keys are text."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _title(node: Node) -> str:
    """A node's word in the id: the name it gives, of a folder its last; else its function's."""
    name = node.get("name")
    if isinstance(name, str) and name.startswith(("/", "~", ".")):
        name = PurePath(name).name
    text = name.partition(".")[0] if isinstance(name, str) and name else leaf(node)
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:40] or "none"
