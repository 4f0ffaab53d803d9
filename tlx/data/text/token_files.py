"""Tokens of a split, kept on disk: tokenised once, mapped into memory afterwards."""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import tokenizers
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tlx.base import durable
from tlx.data.splits import Split
from tlx.data.text.spec import TextSpec
from tlx.data.text.tokenise import Ragged, Tokens

LOG = logging.getLogger(__name__)
VERSION = 2
"""Of what files hold."""
FEW = 20_000
"""Tokens are not worth a file where there are fewer."""
READ = ("max_length", "type_ids", "unit", "unknown_id", "eos_id")
"""Fields of a spec, beside the tokenizer, that tokens depend on."""


def kept(split: Split, spec: TextSpec, *, make: Callable[[], Tokens]) -> Tokens:
    """The tokens of a split, from disk where they are there already, and else made and kept.

    Args:
        split: of texts, with `keys`: hashes of its items' texts.
        spec: what the network reads.
        make: tokenises.
    """
    keys = getattr(split, "keys", ())
    if len(keys) != len(split) or not all(keys):
        return make()
    library = tokenizers.__version__
    head = [VERSION, library, spec.tokenizer, *(getattr(spec, name) for name in READ)]
    if spec.spelling:
        head.append(spec.spelling)
    digest = hashlib.sha256(json.dumps(head).encode())
    for key in keys:
        digest.update(key.encode() + b"\n")
    path = folder() / f"{digest.hexdigest()[:32]}.safetensors"
    if (found := _read(path)) is not None:
        return found
    made = make()
    if len(made.parts["input_ids"].values) < FEW:
        return made
    try:
        _write(path, made)
    except OSError as error:
        LOG.warning("tokens are not kept: %s: %s", path.parent, error)
    return made


def folder() -> Path:
    """Where tokens are kept; it may be deleted at any time."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tlx" / "tokens"


def _read(path: Path) -> Tokens | None:
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["tlx"])
        tensors = load_file(path)
    except (FileNotFoundError, SafetensorError, KeyError, ValueError, OSError):
        return None
    parts = {name: Ragged(tensors[name], tensors[f"{name}.ends"]) for name in facts["parts"]}
    return Tokens(parts, facts["truncated"])


def _write(path: Path, tokens: Tokens) -> None:
    """Writes a file that no reader sees a part of."""
    tensors: dict[str, Tensor] = {}
    for name, part in tokens.parts.items():
        tensors[name], tensors[f"{name}.ends"] = part.values, part.ends
    facts = {"parts": list(tokens.parts), "truncated": tokens.truncated}
    with durable.replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"tlx": json.dumps(facts)})
