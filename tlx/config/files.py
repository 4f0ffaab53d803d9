"""Files and folders that a config names: are they there, and are weights only weights?"""

import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tlx.backbones.weights import kinds as weight_kinds
from tlx.base import bounds
from tlx.base.nodes import Node, node_at
from tlx.config import data_paths
from tlx.config.near_paths import beside
from tlx.config.problems import Problem
from tlx.config.suggest import listed, nearest

HARMLESS = re.compile(
    r"collections (OrderedDict|Counter|defaultdict)"
    r"|torch\._utils _rebuild_\w+"
    r"|torch\._tensor _rebuild_from_type_v2"
    r"|torch\.nn\.parameter (Parameter|Buffer)"
    r"|torch(\.storage)? (\w*Storage|Size|device|dtype|Tensor)"
    r"|torch (float|bfloat|complex|int|uint|qint|quint)\d\w*|torch (bool|strided|sparse_coo)"
    r"|torch\.serialization _get_layout"
    r"|_codecs encode"
    r"|argparse Namespace"
    r"|(builtins|__builtin__) (set|complex|dict|list|tuple|int|float|str|slice)"
)
"""Module and name of what a file of plain tensors refers to; timm's checkpoints keep arguments.

No bytearray: 34 bytes ask for gigabytes of it.
"""


def check(config: Node) -> list[Problem]:
    """Problems of the files and folders that a config names."""
    return [
        *_weights(node_at(config, "backbone")),
        *_without_file(config),
        *data_paths.check(node_at(config, "dataset")),
    ]


def _weights(backbone: Node) -> Iterator[Problem]:
    init = backbone.get("init", "hub")
    if not isinstance(init, str) or init in {"hub", "none", "???"}:
        return
    place = "backbone.init"
    if init.startswith(("run:", "experiment:")):
        if not init.partition(":")[2].strip():
            yield Problem(place, f"{init!r} names nothing; give run:ID or experiment:NAME")
        return
    path = Path(init).expanduser()
    if path.is_dir():
        yield Problem(
            place, f"{init} is a folder; give a weights file in it", beside(path / "model")
        )
    elif not path.exists():
        words = nearest(init, ["hub", "none"], cutoff=0.6) if "/" not in init else None
        yield Problem(
            place,
            f"{init!r} is no file; give hub, none, a weights file, run:ID or experiment:NAME",
            words or beside(path),
        )
    elif said := weight_kinds.refusal(path):
        yield Problem(place, said)
    elif weight_kinds.kind_of(path) == weight_kinds.TORCH and (packed := _packed(path)):
        yield Problem(place, packed)
    elif weight_kinds.kind_of(path) == weight_kinds.TORCH and (found := foreign_globals(path)):
        yield Problem(
            place,
            f"{init} is a pickle with code in it ({listed(found, most=3)}); it was not opened. "
            "Give a .safetensors file, or a file of plain tensors",
        )


def _packed(path: Path) -> str:
    """Why a file of weights is not even looked into; empty where it may be."""
    try:
        bounds.require_unpacked(path)
    except bounds.TooMuch as error:
        return str(error)
    return ""


def _without_file(config: Node) -> Iterator[Problem]:
    """Keys on what a weights file holds, where the weights come from none."""
    backbone = node_at(config, "backbone")
    init, name = backbone.get("init", "hub"), str(backbone.get("name", ""))
    local = init == "hub" and name.startswith("local-dir:")
    if not backbone or init not in ("hub", "none") or local:
        return
    for key in ("rename", "head_names"):
        if backbone.get(key):
            yield Problem(
                f"backbone.{key}",
                f"is for a weights file, and backbone.init={init} reads none; leave it out, or "
                "give the file",
            )
    if config.get("init_head") == "keep" and init == "hub":
        yield Problem(
            "init_head",
            "keep takes the head of a file or of a run, and backbone.init=hub reads none; give "
            "the file as backbone.init, or init_head=new",
        )


def foreign_globals(path: Path) -> list[str]:
    """Names in a pickled file that are not those of plain tensors; nothing is executed.

    A file that is no pickle at all gives the one entry «unreadable».
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                members = [n for n in archive.namelist() if n.endswith(".pkl")]
                found: list[str] = []
                for member in members:
                    with archive.open(member) as stream:
                        found += _globals(stream)
                return _foreign(found) if members else ["unreadable"]
        with path.open("rb") as stream:
            return _foreign(_legacy(stream))
    except (ValueError, OSError, zipfile.BadZipFile, UnicodeDecodeError, EOFError, IndexError):
        return ["unreadable"]


def _legacy(stream: IO[bytes]) -> list[str]:
    """Names in torch's old format: a number of pickles, then raw tensors; or in one bare pickle."""
    found: list[str] = []
    for part in range(5):
        try:
            found += _globals(stream)
        except ValueError:
            if part == 0:
                raise
            break
    return found


def _foreign(names: list[str]) -> list[str]:
    return sorted({name for name in names if not HARMLESS.fullmatch(name)})


def _globals(stream: IO[bytes]) -> list[str]:
    """Names («module name») that a pickle's opcodes refer to."""
    found: list[str] = []
    texts: list[str] = []
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in {"GLOBAL", "INST"}:
            found.append(str(argument))
        elif opcode.name == "STACK_GLOBAL":
            # torch writes protocol 2, which has no such opcode; its names could be feigned here
            found.append(f"computed name {'.'.join(texts[-2:])}")
        elif opcode.name in {"EXT1", "EXT2", "EXT4"}:
            found.append(f"extension {argument}")
        elif isinstance(argument, str):
            texts.append(argument)
    return found
