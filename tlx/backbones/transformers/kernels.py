"""Which implementations a network of transformers may compute with: none is fetched as code."""

import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any

from transformers import PreTrainedConfig

from tlx.base import settings_file
from tlx.base.settings_file import settings_path

ATTENTION = ("eager", "sdpa", "flash_attention_2")
EXPERTS = ("eager", "batched_mm", "grouped_mm")
FLASH, FLASH_PACKAGE = "flash_attention_2", "flash_attn"
UNSET = (None, "")


def require(config: object, asked: object, *, name: str) -> None:
    """Passes a config, and what `backbone.kwargs` asks for, without code from elsewhere.

    The library reads a name like `org/repo` as a repository of compiled code, loads it and runs it;
    a folder's config.json may hold one, in parts of it too.

    Args:
        config: of the library, or as it is written.
        asked: attention that is asked for beside the config; by part, where it is a mapping.
        name: of the network, for messages.

    Raises:
        ValueError: another implementation than tlx or the person's settings allow, one that is not
            installed, or weights in a packed form whose reader is fetched.
    """
    chosen = list(_implementations(config, ""))
    chosen += [("attn_implementation", value) for value in _values(asked)]
    for place, value in chosen:
        if value in UNSET:
            continue
        own = EXPERTS if "experts" in place else ATTENTION
        entries = settings_file.entries(settings_path())
        allowed = {*own, *settings_file.texts(entries, "allow_attention")}
        if value not in allowed:
            raise ValueError(
                f"backbone.name={name!r}: its config asks for {place}={value!r}, which may be code "
                f"from the network; allowed are {', '.join(own)}, and what allow_attention in "
                f"{settings_path()} names"
            )
        if value == FLASH and importlib.util.find_spec(FLASH_PACKAGE) is None:
            raise ValueError(
                f"backbone.name={name!r}: {place}={FLASH} needs the package flash-attn, which is "
                "not installed (transformers would fetch code in its place); give "
                "backbone.kwargs={attn_implementation:sdpa}"
            )
    if getattr(config, "quantization_config", None):
        raise ValueError(
            f"backbone.name={name!r}: its weights are quantized (quantization_config), whose "
            "readers are code from the network, and which cannot be trained; give the plain weights"
        )


def _implementations(config: Any, prefix: str) -> Iterator[tuple[str, object]]:
    """Places and values of implementations in a config, its parts included."""
    entries = dict(vars(config)) if isinstance(config, PreTrainedConfig) else dict(config)
    for key, value in entries.items():
        if str(key).removesuffix("_internal").endswith("_implementation"):
            yield from ((f"{prefix}{key}", item) for item in _values(value))
        elif isinstance(value, PreTrainedConfig | Mapping):
            yield from _implementations(value, f"{prefix}{key}.")


def _values(value: object) -> list[object]:
    return list(value.values()) if isinstance(value, Mapping) else [value]
