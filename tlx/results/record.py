"""The record of a run: a versioned JSON file, written atomically and read strictly."""

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

from tlx.base import durable, sealed

VERSION = 1
FILE = sealed.RECORD
CONSTANTS = {None: "null", True: "true", False: "false"}
LATER = {"later": True}
"""Marks a field that was added since version 1: older records lack it."""


UNREADABLE = "unreadable"
"""Status of a run whose record is there and cannot be read."""


class RecordError(ValueError):
    """A record that cannot be read: another version, a wrong key, a wrong type, broken JSON."""


@dataclass(frozen=True, kw_only=True)
class Value:
    """A figure with its 95% interval.

    Attributes:
        value: the figure.
        low: lower end of the interval; NaN where there is none.
        high: upper end.
        n: items (or seeds) that it rests on.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, kw_only=True)
class SplitRecord:
    """Final figures on one split.

    Attributes:
        n: items evaluated.
        metrics: metric's name -> figure.
        per_class: one plain mapping a class (or a regressed quantity), each with its `name`.
        confusion: rows are true classes, columns predicted ones; None where too large.
        calibration: definition, figures and reliability bins.
        invalid: items whose outputs held NaN; they count as wrong.
        views: what else views of the task need, by their names.
    """

    n: int
    metrics: Mapping[str, Value] = field(default_factory=dict)
    per_class: tuple[Mapping[str, object], ...] = ()
    confusion: tuple[tuple[int, ...], ...] | None = None
    calibration: Mapping[str, Any] = field(default_factory=dict)
    invalid: int = 0
    views: Mapping[str, object] = field(default_factory=dict, metadata=LATER)


DECODED = "input"
"""Boundary of a stage whose inputs were stored, rather than activations of what is frozen."""


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """What one stage did.

    Attributes:
        name: as the freeze strategy names it.
        start: global step at which it began.
        end: global step at which it ended.
        trainable: parameters that trained.
        total: parameters of the network.
        wall_s: seconds.
        samples_per_s: training samples a second.
        ended_by: `budget`, `plateau`, `early_stopping`, `convergence`.
        boundary: name of the module whose stored activations it trained from; `input`: its inputs
            were stored, decoded and resized, and nothing that is frozen; None: from the data.
        computed: activations, or inputs, that were computed for it.
        reused: those that were in the store.
        saved_s: seconds of computing that the store spared it, as measured on its own network.
    """

    name: str
    start: int
    end: int
    trainable: int
    total: int
    wall_s: float
    samples_per_s: float
    ended_by: str
    boundary: str | None = field(default=None, metadata=LATER)
    computed: int = field(default=0, metadata=LATER)
    reused: int = field(default=0, metadata=LATER)
    saved_s: float = field(default=0.0, metadata=LATER)


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """How many parameters there are, and train.

    Attributes:
        total: of the whole network.
        trainable: those that train in at least one stage.
        by_stage: stage's name -> parameters that train in it.
    """

    total: int
    trainable: int
    by_stage: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Selected:
    """Which weights were kept, and why.

    Attributes:
        monitor: what selection looked at, `val/accuracy`.
        mode: `max` or `min`.
        value: its best value.
        step: global step of that value.
        stage: name of the stage that the step is in.
        last_stage: whether that is the last stage of the strategy.
    """

    monitor: str
    mode: str
    value: float
    step: int
    stage: str | None = field(default=None, metadata=LATER)
    last_stage: bool | None = field(default=None, metadata=LATER)


@dataclass(frozen=True, kw_only=True)
class Record:
    """Everything that a run found out.

    Attributes:
        run: the run's id.
        name: the name that the person gave it.
        status: `running`, `finished`, `failed`, `interrupted` or `pruned`.
        task: the task's name.
        seed: the run's seed.
        budget_steps: optimizer steps that it was allowed.
        used_steps: optimizer steps that it took.
        stages: stage by stage, in order.
        splits: split's name -> final figures.
        parameters: counts, or None before the network was built.
        wall_s: seconds of training and evaluation, over all restarts.
        peak_memory_bytes: of the device, or of the process on a CPU.
        samples_per_s: training samples a second, over the whole run.
        selected: the validation of the weights that were kept: the best one, or the last.
        weights_id: identity of the starting weights.
        lineage: ids of the runs that the weights came through, oldest first.
        fused_with: ids of the runs trained in the same vectorised job.
        cached: whether a stage has a boundary: activations, or decoded inputs, were stored.
        notes: plain facts on the data: quarantined files, duplicates, subset sizes; `batch_size`
            where there are fewer items than were asked for; `lbfgs`: which penalty was chosen of
            which, and how nearly the head is solved; `changes`: of each change of meaning that was
            known then, by its mark, whether it concerns the config.
        error: why it failed.
        views: of the task, by which a report shows what it recorded; None: from before they were
            said.
        files: of a finished run, the files that it left, by name in its folder, with their SHA-256.
    """

    run: str
    name: str
    status: str
    task: str
    seed: int
    budget_steps: int
    used_steps: int = 0
    stages: tuple[StageRecord, ...] = ()
    splits: Mapping[str, SplitRecord] = field(default_factory=dict)
    parameters: Parameters | None = None
    wall_s: float = 0.0
    peak_memory_bytes: int | None = None
    samples_per_s: float | None = None
    selected: Selected | None = None
    weights_id: str = "none"
    lineage: tuple[str, ...] = ()
    fused_with: tuple[str, ...] = ()
    cached: bool = False
    notes: Mapping[str, object] = field(default_factory=dict)
    error: str | None = None
    views: tuple[str, ...] | None = field(default=None, metadata=LATER)
    files: Mapping[str, str] = field(default_factory=dict, metadata=LATER)


STATUSES = ("running", "finished", "failed", "interrupted", "pruned")


def to_json(record: Record) -> str:
    """The record as strict JSON; numbers that JSON lacks are written `{"$float": "nan"}`."""
    if record.status not in STATUSES:
        raise RecordError(f"status={record.status!r}; it is one of {', '.join(STATUSES)}")
    try:
        return _text({"version": VERSION, **vars(record)}, "\n") + "\n"
    except _Refused as refused:
        raise RecordError(f"record{refused.place}{refused.reason}") from None


def from_json(text: str, *, source: str = FILE) -> Record:
    """The record that `to_json` wrote.

    Args:
        text: JSON.
        source: what errors call it, usually a path.

    Raises:
        RecordError: broken JSON, another version, an unknown or missing key, a wrong type.
    """
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise RecordError(f"{source}: not JSON ({error})") from error
    if not isinstance(data, dict):
        raise RecordError(f"{source}: a JSON object is expected, not {type(data).__name__}")
    version = data.pop("version", None)
    if version != VERSION:
        raise RecordError(
            f"{source}: version {version!r}, this tlx reads {VERSION}; "
            "use the tlx that wrote it (see provenance.json beside it)"
        )
    record: Record = typed(Record, data, source)
    if record.status not in STATUSES:
        raise RecordError(f"{source}.status={record.status!r}; it is one of {', '.join(STATUSES)}")
    return record


def read(folder: Path | str) -> Record:
    """The record in a run's folder.

    Raises:
        FileNotFoundError: there is none.
        RecordError: it cannot be read; says what to do.
    """
    path = Path(folder) / FILE
    try:
        return from_json(path.read_text(encoding="utf-8"), source=str(path))
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, UnicodeDecodeError, RecordError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path | str, error: Exception) -> RecordError:
    """What is said of a record that is there and cannot be read, with the ways on."""
    why = str(error) if isinstance(error, RecordError) else f"{path}: cannot be read ({error})"
    return RecordError(
        f"{why}. Put it back from a copy, or move it away: the run then goes on from its last "
        "checkpoint, or is trained anew where it has none; --force trains it anew"
    )


def set_aside(folder: Path | str) -> Path:
    """Moves a record that cannot be read out of the way; returns where to."""
    path = Path(folder) / FILE
    return path.replace(path.with_name(f"{FILE}.damaged"))


def error_of(folder: Path | str) -> str | None:
    """Why a run failed, or why its record cannot be read; None where neither."""
    try:
        return read(folder).error
    except (FileNotFoundError, NotADirectoryError):
        return None
    except RecordError as error:
        return str(error)


def write(folder: Path | str, record: Record) -> Path:
    """Writes the record into a run's folder, atomically and durably; returns its path."""
    path = Path(folder) / FILE
    durable.write(path, to_json(record))  # which may refuse, before anything is touched
    return path


def write_finished(folder: Path, record: Record, *, weights: bool) -> Record:
    """Writes the record of a finished run as soon as all that it speaks of is on disk.

    Args:
        folder: of the run.
        record: without the run's files.
        weights: whether the run's weights stay.

    Returns:
        The record with them.
    """
    names = sealed.names(folder, weights=weights)
    durable.sync(folder / name for name in names)  # all of them, then their folders, once
    made = dataclasses.replace(record, files=sealed.seals(folder, names))
    write(folder, made)
    return made


class _Refused(Exception):
    """Something that cannot be recorded; its place is put together on the way up."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason, self.place = reason, ""


def _text(value: Any, line: str) -> str:
    """Plain data as `json.dumps(..., indent=1, ensure_ascii=False)` writes it, only faster.

    Args:
        value: the data, dataclasses included.
        line: a line break with the indentation of what surrounds it.

    Raises:
        _Refused: something is neither plain nor a dataclass.
    """
    kind = type(value)
    if kind is str:
        return encode_basestring(value)
    if kind is float:
        return repr(value) if value - value == 0 else _text({"$float": str(value)}, line)
    if kind is int:
        return repr(value)
    if value is None or kind is bool:
        return CONSTANTS[value]
    inner = line + " "
    if isinstance(value, (list, tuple)):
        parts = [_part(item, f"[{index}]", inner) for index, item in enumerate(value)]
        return f"[{inner}{f',{inner}'.join(parts)}{line}]" if parts else "[]"
    if hasattr(value, "__dataclass_fields__") and kind is not type:
        value = vars(value)
    if isinstance(value, Mapping):
        wrong = [key for key in value if not isinstance(key, str)]
        if wrong:
            raise _Refused(f": key {wrong[0]!r} is not a text; use text for keys")
        parts = [
            f"{encode_basestring(key)}: {_part(item, f'.{key}', inner)}"
            for key, item in value.items()
        ]
        return f"{{{inner}{f',{inner}'.join(parts)}{line}}}" if parts else "{}"
    raise _Refused(
        f": {kind.__module__}.{kind.__name__} cannot be recorded; "
        "use int, float, str, bool, lists and dicts (`.item()`, `.tolist()`)"
    )


def _part(value: object, place: str, line: str) -> str:
    try:
        return _text(value, line)
    except _Refused as refused:
        refused.place = place + refused.place
        raise


def typed(kind: Any, value: object, place: str) -> Any:
    """Plain data as an annotation says.

    Raises:
        RecordError: it is of another form; names the place.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, place)
    if origin is types.UnionType:
        return None if value is None else typed(arguments[0], value, place)
    if origin is tuple and isinstance(value, list):
        return tuple(typed(arguments[0], v, f"{place}[{i}]") for i, v in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return {k: typed(arguments[1], v, f"{place}.{k}") for k, v in value.items()}
    if kind in (Any, object):
        return _revive(value)
    if kind is float and not isinstance(value, bool):
        value = _revive(value)
        if isinstance(value, (int, float)):
            return float(value)
    if type(value) is kind:
        return value
    raise RecordError(f"{place}: {value!r} is not of type {getattr(kind, '__name__', kind)}")


_hints = functools.cache(typing.get_type_hints)


def _build_dataclass(kind: Any, value: object, place: str) -> object:
    if not isinstance(value, dict):
        raise RecordError(f"{place}: an object is expected, not {value!r}")
    hints = _hints(kind)
    needed = {f.name for f in dataclasses.fields(kind) if f.metadata != LATER}
    unknown, missing = sorted(value.keys() - hints.keys()), sorted(needed - value.keys())
    if unknown or missing:
        raise RecordError(
            f"{place}: unknown keys {unknown}, missing keys {missing}; allowed: {sorted(hints)}"
        )
    return kind(**{key: typed(hints[key], value[key], f"{place}.{key}") for key in value})


def _revive(value: object) -> object:
    if isinstance(value, dict):
        if value.keys() == {"$float"}:
            return float(value["$float"])
        return {key: _revive(item) for key, item in value.items()}
    return [_revive(item) for item in value] if isinstance(value, list) else value
