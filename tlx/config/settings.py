"""The person's own settings: what this machine's user allows, which no shared config may."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tlx.base import settings_file
from tlx.base.settings_file import settings_path
from tlx.config import project, signatures
from tlx.config.allowed import Allowed
from tlx.config.plugins import plugins
from tlx.config.problems import CheckError, Problem
from tlx.config.suggest import listed, nearest

KEYS = ("allow_targets", "allow_remote_code", "allow_environment", "allow_attention")


@dataclass(frozen=True)
class Settings:
    """What the user allows.

    Args:
        allow_targets: functions that a `_target_` may name besides tlx's own: dotted names, and
            `mycode.*` for all that a module, or one below it, defines; those of the project that
            one is in and of installed packages too.
        allow_remote_code: whether `trust_remote_code` may stand in a config.
        allow_environment: names, or patterns with `*`, of environment variables that a config may
            read by `${oc.env:NAME}`.
        allow_attention: implementations of attention, or of experts, that a network of transformers
            may use besides the library's own, `org/repo` too.
    """

    allow_targets: Allowed = field(default_factory=Allowed)
    allow_remote_code: bool = False
    allow_environment: frozenset[str] = frozenset()
    allow_attention: frozenset[str] = frozenset()


def load_settings() -> Settings:
    """What the user's settings, the project that one is in, and installed packages allow.

    Raises:
        CheckError: a file is not TOML, or holds an unknown key or a wrong type; the project's file
            allows what only the user may, or functions of others.
    """
    own = _read(settings_path(), KEYS)
    brought = Allowed(frozenset().union(*(plugin.targets() for plugin in plugins())))
    return replace(own, allow_targets=own.allow_targets | _of_project() | brought)


def _of_project() -> Allowed:
    """Functions of the project that one is in, which its tlx.toml allows."""
    here = project.current()
    if here is None:
        return Allowed()
    allowed = _read(here.file, ("allow_targets",)).allow_targets
    problems = []
    heads = {name.partition(".")[0] for name in allowed.names | allowed.modules}
    for head in sorted(heads):
        if not signatures.within(head, here.root):
            place = signatures.place(head)
            where = f"is in {place}" if place is not None else "is no module there"
            problems.append(
                Problem(
                    f"{here.file}: allow_targets",
                    f"{head!r} {where}; a project allows functions of its own modules, which lie "
                    f"in {here.root} and bear no name of an installed package",
                )
            )
    if problems:
        raise CheckError(problems)
    return allowed


def _read(path: Path, keys: Sequence[str]) -> Settings:
    """What a settings file says; nothing is allowed where there is none."""
    try:
        content = settings_file.entries(path)
    except ValueError as error:
        raise CheckError([Problem(str(path), str(error))]) from error
    problems = [_unknown(path, key, keys) for key in content if key not in keys]
    targets = _texts(content, "allow_targets", "dotted names", path, problems)
    variables = _texts(content, "allow_environment", "names of variables", path, problems)
    attention = _texts(content, "allow_attention", "names", path, problems)
    remote = content.get("allow_remote_code", False)
    if not isinstance(remote, bool):
        problems.append(Problem(f"{path}: allow_remote_code", "must be true or false"))
    if problems:
        raise CheckError(problems)
    modules = frozenset(name.removesuffix(".*") for name in targets if name.endswith(".*"))
    names = frozenset(name for name in targets if not name.endswith(".*"))
    return Settings(Allowed(names, modules), remote is True, variables, attention)


def _unknown(path: Path, key: str, keys: Sequence[str]) -> Problem:
    if key in KEYS:
        return Problem(f"{path}: {key}", f"is for your own settings file alone, {settings_path()}")
    return Problem(f"{path}: {key}", f"is no setting; there are {listed(keys)}", nearest(key, keys))


def _texts(
    content: Mapping[str, object], key: str, what: str, path: Path, problems: list[Problem]
) -> frozenset[str]:
    """A setting that is a list of texts; what else it is goes to the problems (a mutator)."""
    try:
        return settings_file.texts(content, key)
    except ValueError:
        problems.append(Problem(f"{path}: {key}", f"must be a list of {what}"))
        return frozenset()
