"""The person's own settings as they are written; what they mean, `config.settings` says."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path


def settings_path() -> Path:
    """The settings file: `TLX_SETTINGS`, else `tlx/settings.toml` in the user's config folder."""
    if given := os.environ.get("TLX_SETTINGS"):
        return Path(given)
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "tlx" / "settings.toml"


def entries(path: Path) -> Mapping[str, object]:
    """Keys and values of a settings file; none where there is no file.

    Raises:
        ValueError: it is not valid TOML.
    """
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"is not valid TOML: {error}") from error


def texts(values: Mapping[str, object], key: str) -> frozenset[str]:
    """A setting that is a list of texts; empty where it is not there.

    Raises:
        ValueError: it is something else.
    """
    value = values.get(key, [])
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError("must be a list of texts")
    return frozenset(value)
