"""The person's own settings: what this machine's user allows, which no shared config may."""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlx.config.problems import CheckError, Problem
from tlx.config.suggest import listed, nearest

KEYS = ("allow_targets", "allow_remote_code", "allow_environment", "allow_attention")


@dataclass(frozen=True)
class Settings:
    """What the user allows.

    Args:
        allow_targets: dotted names of functions that a `_target_` may name besides tlx's own.
        allow_remote_code: whether `trust_remote_code` may stand in a config.
        allow_environment: names, or patterns with `*`, of environment variables that a config may
            read by `${oc.env:NAME}`.
        allow_attention: implementations of attention, or of experts, that a network of transformers
            may use besides the library's own, `org/repo` too.
    """

    allow_targets: frozenset[str] = frozenset()
    allow_remote_code: bool = False
    allow_environment: frozenset[str] = frozenset()
    allow_attention: frozenset[str] = frozenset()


def settings_path() -> Path:
    """The settings file: `TLX_SETTINGS`, else `tlx/settings.toml` in the user's config folder."""
    if given := os.environ.get("TLX_SETTINGS"):
        return Path(given)
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "tlx" / "settings.toml"


def load_settings() -> Settings:
    """The user's settings; nothing is allowed where there is no file.

    Raises:
        CheckError: the file is not TOML, or holds an unknown key or a wrong type.
    """
    path = settings_path()
    if not path.is_file():
        return Settings()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CheckError([Problem(str(path), f"is not valid TOML: {error}")]) from error
    problems = [
        Problem(f"{path}: {key}", f"is no setting; there are {listed(KEYS)}", nearest(key, KEYS))
        for key in content
        if key not in KEYS
    ]
    targets = _texts(content, "allow_targets", "dotted names", path, problems)
    variables = _texts(content, "allow_environment", "names of variables", path, problems)
    attention = _texts(content, "allow_attention", "names", path, problems)
    remote: Any = content.get("allow_remote_code", False)
    if not isinstance(remote, bool):
        problems.append(Problem(f"{path}: allow_remote_code", "must be true or false"))
    if problems:
        raise CheckError(problems)
    return Settings(targets, remote, variables, attention)


def _texts(
    content: dict[str, Any], key: str, what: str, path: Path, problems: list[Problem]
) -> frozenset[str]:
    """A setting that is a list of texts; what else it is goes to the problems (a mutator)."""
    texts: Any = content.get(key, [])
    if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
        return frozenset(texts)
    problems.append(Problem(f"{path}: {key}", f"must be a list of {what}"))
    return frozenset()
