"""Records: what is written is read back; everything else is refused with its place."""

import dataclasses
import json
import math
import os

import pytest

from tlx.results import kept_weights, reading, record
from tlx.results.record import (
    Parameters,
    Record,
    RecordError,
    Selected,
    SplitRecord,
    StageRecord,
    Value,
)


def full_record(**changes) -> Record:
    given = dict(
        run="digits-resnet10t-full-s0-0123456789",
        name="a run · ünïcode",
        status="finished",
        task="image_classification",
        seed=0,
        budget_steps=100,
        used_steps=90,
        stages=(
            StageRecord(
                name="head", start=0, end=90, trainable=10, total=100, wall_s=1.5,
                samples_per_s=64.0, ended_by="plateau",
            ),
        ),
        splits={
            "test": SplitRecord(
                n=3,
                metrics={"accuracy": Value(value=0.5, low=0.25, high=0.75, n=3)},
                per_class=({"name": "a", "f1": 1.0, "support": 3},),
                confusion=((1, 2), (0, 0)),
                calibration={"bins": [{"low": 0.0, "n": 3}]},
            )
        },
        parameters=Parameters(total=100, trainable=10, by_stage={"head": 10}),
        wall_s=2.0,
        peak_memory_bytes=10**10,
        samples_per_s=60.0,
        selected=Selected(monitor="val/accuracy", mode="max", value=0.5, step=80),
        weights_id="abc",
        lineage=("parent",),
        views=("per_class", "mine.view"),
        notes={"duplicates": {"train/test": 1}},
    )  # fmt: skip
    return Record(**{**given, **changes})


def test_roundtrip(tmp_path):
    written = full_record()
    path = record.write(tmp_path / "new", written)
    assert record.read(tmp_path / "new") == written
    assert os.listdir(tmp_path / "new") == [path.name] == ["record.json"]


def test_a_record_with_defaults_only_roundtrips():
    small = Record(run="r", name="n", status="running", task="t", seed=1, budget_steps=0)
    assert record.from_json(record.to_json(small)) == small


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_odd_numbers_survive_in_strict_json(odd):
    value = Value(value=odd, low=odd, high=1, n=0)
    written = full_record(
        splits={"x": SplitRecord(n=0, metrics={"m": value}, calibration={"ece": odd})}
    )
    text = record.to_json(written)
    json.loads(text, parse_constant=pytest.fail)
    split = record.from_json(text).splits["x"]
    assert repr(split.metrics["m"].value) == repr(split.calibration["ece"]) == repr(odd)
    assert type(split.metrics["m"].high) is float


def test_every_key_is_required_and_no_other_allowed():
    data = json.loads(record.to_json(full_record()))
    for key in data.keys() - {"version", "files", "views"}:  # the latter two came later
        with pytest.raises(RecordError, match=key):
            record.from_json(json.dumps({k: v for k, v in data.items() if k != key}))
    with pytest.raises(RecordError, match="unknown keys \\['stagse'\\]"):
        record.from_json(json.dumps({**data, "stagse": []}))


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"seed": "0"}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"wall_s": True}, "wall_s"),
        ({"cached": 1}, "cached"),
        ({"stages": {}}, "stages"),
        ({"stages": [{}]}, r"stages\[0\]"),
        ({"splits": {"test": {"n": 1}}}, "splits.test"),
        ({"parameters": {"total": 1, "trainable": None, "by_stage": {}}}, "trainable"),
        ({"status": "done"}, "status"),
        ({"version": 99}, "version 99"),
        ({"version": None}, "version"),
    ],
)
def test_wrong_types_are_refused_with_their_place(change, place):
    data = json.loads(record.to_json(full_record())) | change
    with pytest.raises(RecordError, match=place):
        record.from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"version": 1}'])
def test_broken_files_are_refused_with_their_path(tmp_path, text):
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(RecordError, match=r"record\.json"):
        record.read(tmp_path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        record.read(tmp_path)


@pytest.mark.parametrize("bad", [{"a": object()}, {"a": {1: 2}}, {"a": [{3}]}])
def test_what_json_lacks_is_refused_at_writing_and_nothing_is_touched(tmp_path, bad):
    record.write(tmp_path, full_record())
    with pytest.raises(RecordError, match=r"record\.notes\.a"):
        record.write(tmp_path, full_record(notes=bad))
    assert record.read(tmp_path) == full_record()
    with pytest.raises(RecordError, match="status"):
        record.write(tmp_path, full_record(status="ok"))


def test_a_failing_write_leaves_the_old_record(tmp_path, monkeypatch):
    record.write(tmp_path, full_record())

    def fail(*_):
        raise OSError("disk")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(OSError, match="disk"):
                record.write(tmp_path, full_record(seed=5))
        assert record.read(tmp_path) == full_record()
        assert os.listdir(tmp_path) == ["record.json"]


def test_records_are_values():
    with pytest.raises(dataclasses.FrozenInstanceError):
        full_record().seed = 3


# -- which weights were kept --------------------------------------------------------------------


def of_stages(step, *, selected=None, names=("head", "all"), status="finished"):
    stages = tuple(
        StageRecord(
            name=name, start=40 * place, end=40 * (place + 1), trainable=1, total=9, wall_s=1.0,
            samples_per_s=1.0, ended_by="budget",
        )
        for place, name in enumerate(names)
    )  # fmt: skip
    said = {"monitor": "val/accuracy", "mode": "max", "value": 0.5, "step": step}
    return full_record(stages=stages, selected=Selected(**said, **(selected or {})), status=status)


@pytest.mark.parametrize(
    ("made", "words", "count"),
    [
        # records of before: the steps of their stages tell
        (of_stages(40), "step 40 (stage head), not of the last stage", "1 of 1"),
        (of_stages(41), "step 41 (stage all)", "0 of 1"),
        (of_stages(80), "step 80 (stage all)", "0 of 1"),
        (of_stages(30, names=("all",)), "step 30 (stage all)", "0 of 0"),
        # early stopping ended the first of two stages
        (
            of_stages(30, names=("head",), selected={"stage": "head", "last_stage": False}),
            "step 30 (stage head), not of the last stage",
            "1 of 1",
        ),
        (of_stages(40, status="failed"), "", "0 of 0"),
        (full_record(selected=None), "", "0 of 0"),
    ],
)
def test_a_record_tells_which_weights_were_kept(made, words, count):
    assert kept_weights.sentence(made) == words
    assert str(kept_weights.count([made, None])) == count


def test_a_record_of_before_is_read_fast_and_strictly(tmp_path):
    made = full_record()
    data = json.loads(record.to_json(made))
    del data["selected"]["stage"], data["selected"]["last_stage"]
    (tmp_path / record.FILE).write_text(json.dumps(data))
    assert record.read(tmp_path) == made
    assert reading._quick(data) == made
