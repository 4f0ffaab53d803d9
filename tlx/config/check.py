"""Everything that is wrong with a composed config, at once, before anything heavy starts."""

import re
from collections.abc import Iterator, Mapping

from tlx.base import secrecy
from tlx.base.nodes import Node, node_at, sequence
from tlx.config import defaults, files, limits, schema, signatures
from tlx.config.allowed import Allowed
from tlx.config.places import list_group_options, targets_by_group
from tlx.config.plugins import plugins
from tlx.config.problems import CheckError, Problem
from tlx.config.settings import Settings, load_settings
from tlx.config.signatures import Signature, signature
from tlx.config.suggest import listed, nearest
from tlx.config.types import Misfit, conform, shown

__all__ = ["CheckError", "Problem", "allowed_targets", "check", "may_import", "require"]

KINDS = ("local", "slurm", "ray")
"""Of tlx's own executors."""
SUPPLIED = (
    "is supplied by tlx, a config cannot give it; in a function of your own, what configs give "
    "stands behind `*,`"
)
HYDRA_KEYS = ("_partial_", "_args_", "_recursive_", "_convert_", "_mode_", "_call_")


def allowed_targets() -> Allowed:
    """All that a `_target_` may name: what conf/ uses, and what settings and packages add."""
    ours = frozenset[str]().union(*targets_by_group().values())
    return Allowed(ours) | load_settings().allow_targets


def may_import(module: str) -> bool:
    """Whether code of one's own may be run that no config names, such as a view of a report.

    It is of a module whose functions are allowed, or of a package that brings options.
    """
    heads = {plugin.package.partition(".")[0] for plugin in plugins()}
    allowed = allowed_targets()
    ours = any(f"{module}.{name}" in allowed for name in signatures.public(module))
    return ours or module.partition(".")[0] in heads


def require(config: Node) -> None:
    """Passes a config without problems.

    Raises:
        CheckError: there are problems; it lists them all.
    """
    if problems := check(config):
        raise CheckError(problems)


def check(config: Node) -> list[Problem]:
    """All problems of a composed config; what it names is looked at, and never imported."""
    settings = load_settings()
    problems = [
        *_top_level(config),
        *_schema_nodes(config),
        *_target_nodes(config, settings),
        *_executor(config, settings),
        *_stray(config, settings),
        *_secrets(config),
    ]
    wrong = {problem.place for problem in problems}
    later = [*limits.check(config), *files.check(config), *defaults.check(config)]
    problems += [problem for problem in later if problem.place not in wrong]
    return list(dict.fromkeys(problems))


def _top_level(config: Node) -> Iterator[Problem]:
    groups = (*schema.TARGET_GROUPS, *schema.LIST_GROUPS)
    fields = schema_signature("Config").parameters
    known = {*fields, *groups, *schema.NODES}
    for key in config:
        if key not in known:
            yield Problem(
                str(key), f"is no key; there are {listed(known, most=40)}", _elsewhere(key, known)
            )
    for group in (*groups, *schema.SCHEMA_GROUPS):
        if group in config and not isinstance(config[group], Mapping):
            yield Problem(group, f"is {shown(config[group])}; choose an option: {group}=NAME")
        elif group not in config and group not in (*schema.LIST_GROUPS, *schema.OPTIONAL):
            yield Problem(group, f"is missing; choose an option: {group}=NAME")
    present = {key: value for key, value in config.items() if key in fields}
    yield from _values("", present, schema_signature("Config"))


def _elsewhere(key: str, known: set[str]) -> str | None:
    """A key's nearest right name: at the top, or the full name of one inside a node."""
    inside = {
        name: f"{node}.{name}"
        for node, of in schema.NODES.items()
        for name in schema_signature(of).parameters
    }
    inside |= {"lr": "optimizer.lr", "init": "backbone.init", "root": "dataset.root"}
    near = nearest(key, known, cutoff=0.7)
    if near is None and key in inside:
        return inside[key]
    return near or nearest(key, known)


def schema_signature(name: str) -> Signature:
    """The fields of a dataclass of the schema."""
    found = signature(f"tlx.config.schema.{name}")
    assert found is not None, name
    return found


def _schema_nodes(config: Node) -> Iterator[Problem]:
    for key, name in schema.NODES.items():
        node = config.get(key)
        if isinstance(node, Mapping):
            yield from _arguments(f"{key}.", node, schema_signature(name))
        elif node is not None:
            yield Problem(key, f"is {shown(node)}; give a mapping")


def target_nodes(config: Node) -> Iterator[tuple[str, str, object]]:
    """Group, place and node of everything that is to be a call."""
    for group in schema.TARGET_GROUPS:
        if isinstance(config.get(group), Mapping):
            yield group, group, config[group]
    for group in schema.LIST_GROUPS:
        for key, node in node_at(config, group).items():
            yield group, f"{group}.{key}", node


def _target_nodes(config: Node, settings: Settings) -> Iterator[Problem]:
    for group, place, node in target_nodes(config):
        if not isinstance(node, Mapping):
            yield Problem(
                place, f"is {shown(node)}; choose options by {group}=[…]", _option(group, place)
            )
            continue
        target = node.get("_target_")
        if target is None:
            yield _no_target(group, place)
            continue
        if not isinstance(target, str):
            yield Problem(f"{place}._target_", f"is {shown(target)}; give one dotted name")
            continue
        allowed = Allowed(targets_by_group().get(group, frozenset())) | settings.allow_targets
        if target not in allowed:
            module = target.rpartition(".")[0]
            if settings.allow_targets.covers(module) and signatures.place(module) is None:
                yield Problem(f"{place}._target_", f"{module} is no module that can be found")
                continue
            yield Problem(
                f"{place}._target_",
                f"{target!r} is not allowed; tlx calls only what its own option files name, "
                "and what allow_targets lists in your settings file, or in the tlx.toml of the "
                "project that you are in",
                nearest(target, allowed.listed(), cutoff=0.75),
            )
            continue
        name = place.rpartition(".")[2]
        if group in schema.LIST_GROUPS and target not in settings.allow_targets:
            options = list_group_options(group)
            if name not in options:
                yield Problem(
                    place, f"is no option; there are {listed(options)}", nearest(name, options)
                )
        found = signature(target)
        if found is None:
            yield Problem(f"{place}._target_", f"{target} names no function that can be found")
            continue
        if group == "backbone" and "init" not in found.parameters:
            yield Problem(
                f"{place}._target_",
                f"{target} has no argument init, by which runs start from others' weights: give it "
                '`init: str = "none"` behind `*,`, and hand it to `wrapped`',
            )
            continue
        arguments = {key: value for key, value in node.items() if key != "_target_"}
        yield from _arguments(f"{place}.", arguments, found)


def _arguments(prefix: str, node: Node, found: Signature) -> Iterator[Problem]:
    yield from _unknown(prefix, node, found)
    yield from _values(prefix, node, found)
    yield from _required(prefix, node, found)


def _no_target(group: str, place: str) -> Problem:
    name = place.rpartition(".")[2]
    if group not in schema.LIST_GROUPS:
        return Problem(place, f"has no _target_; choose an option: {group}=NAME")
    options = list_group_options(group)
    if name in options:
        return Problem(place, f"is not chosen; add it: {group}=[…,{name}]", f"{group}=[{name}]")
    return Problem(place, f"is no option; there are {listed(options)}", nearest(name, options))


def _option(group: str, place: str) -> str | None:
    if group not in schema.LIST_GROUPS:
        return None
    return nearest(place.rpartition(".")[2], list_group_options(group))


def _unknown(prefix: str, node: Node, found: Signature) -> Iterator[Problem]:
    for key in node:
        name = str(key)
        if name in found.supplied:
            yield Problem(f"{prefix}{name}", SUPPLIED)
        elif name not in found.parameters and name not in (*HYDRA_KEYS, "_target_"):
            options = found.parameters
            yield Problem(
                f"{prefix}{name}",
                f"is no key here; there are {listed(options)}",
                nearest(name, options),
            )


def _values(prefix: str, node: Node, found: Signature) -> Iterator[Problem]:
    for key, value in node.items():
        parameter = found.parameters.get(str(key))
        if parameter is None or value == schema.MISSING:
            continue
        try:
            conform(value, parameter.annotation, found.aliases)
        except Misfit as misfit:
            yield Problem(f"{prefix}{key}", str(misfit), misfit.suggestion)


def _required(prefix: str, node: Node, found: Signature) -> Iterator[Problem]:
    for name, parameter in found.parameters.items():
        if node.get(name, schema.MISSING if parameter.required else None) == schema.MISSING:
            yield Problem(f"{prefix}{name}", f"must be given: {prefix}{name}=…")


def _executor(config: Node, settings: Settings) -> Iterator[Problem]:
    """A kind of executor that there is not."""
    kind = node_at(config, "executor").get("kind", KINDS[0])
    if isinstance(kind, str) and kind not in KINDS and kind not in settings.allow_targets:
        yield Problem(
            "executor.kind",
            f"is {kind!r}; give {', '.join(KINDS)}, or the dotted name of a function that "
            "allow_targets lists",
            nearest(kind, [*KINDS, *settings.allow_targets.listed()]),
        )


def _stray(config: Node, settings: Settings) -> Iterator[Problem]:
    """Keys that have a meaning to Hydra or to model hubs, wherever they hide."""
    places = {f"{place}._target_" for _, place, _ in target_nodes(config)}
    for place, key, value in _walk(config, ""):
        if key == "_target_" and place not in places:
            yield Problem(place, f"{value!r}: a _target_ has no place here")
        elif key in HYDRA_KEYS:
            yield Problem(place, "is refused: a config names calls, and says nothing about how")
        elif (
            re.fullmatch(r"trust_remote_code", key, re.IGNORECASE)
            and not settings.allow_remote_code
        ):
            yield Problem(
                place,
                "is refused: it runs code from the network; allow_remote_code = true in your "
                "settings file permits it",
            )


def _secrets(config: Node) -> Iterator[Problem]:
    """Secrets in what a worker reads from the run's folder; what only a driver reads is masked."""
    shown = {key: value for key, value in config.items() if key not in schema.DRIVERS_ONLY}
    for place in dict.fromkeys(secrecy.places(shown)):
        yield Problem(
            place,
            "looks like a secret, and configs are written to files and sent to loggers: let the "
            "code that needs it read it from the environment (HF_TOKEN, WANDB_API_KEY, ...) or "
            "from a file of its own (~/.netrc)",
        )


def _walk(node: object, prefix: str) -> Iterator[tuple[str, str, object]]:
    items = node.items() if isinstance(node, Mapping) else enumerate(sequence(node))
    for key, value in items:
        place = f"{prefix}.{key}" if prefix else str(key)
        yield place, str(key), value
        yield from _walk(value, place)
