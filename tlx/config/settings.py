"""The person's own settings: what this machine's user allows, which no shared config may."""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlx.config.problems import CheckError, Problem
from tlx.config.suggest import listed, nearest

KEYS = ("allow_targets", "allow_remote_code")


@dataclass(frozen=True)
class Settings:
    """What the user allows.

    Args:
        allow_targets: dotted names of functions that a `_target_` may name besides tlx's own.
        allow_remote_code: whether `trust_remote_code` may stand in a config.
    """

    allow_targets: frozenset[str] = frozenset()
    allow_remote_code: bool = False


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
    targets: Any = content.get("allow_targets", [])
    if not isinstance(targets, list) or not all(isinstance(t, str) for t in targets):
        problems.append(Problem(f"{path}: allow_targets", "must be a list of dotted names"))
    remote: Any = content.get("allow_remote_code", False)
    if not isinstance(remote, bool):
        problems.append(Problem(f"{path}: allow_remote_code", "must be true or false"))
    if problems:
        raise CheckError(problems)
    return Settings(frozenset(targets), remote)
