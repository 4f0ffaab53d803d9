"""A short cover of `make chaos`, which kills runs of every kind; and that it would notice."""

import random
import shutil

import pytest

from chaos import kills
from tlx.execution import execute


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ema", "ranks", "first_seconds"])
def test_killed_runs_leave_what_calm_runs_leave(kind, tmp_path):
    with kills.room(tmp_path):
        outcome = kills.chaos(kind, 2, tmp_path / kind, random.Random())
    assert outcome.kills == 2
    assert outcome.ended >= 1
    assert outcome.differences == ()


def test_a_bit_a_row_and_a_file_are_noticed(tmp_path):
    with kills.room(tmp_path):
        calm = kills.Trial("texts", tmp_path / "calm")
        execute.run_here(calm.run)
    shutil.copytree(calm.folder, tmp_path / "other")
    (folder,) = (path.parent for path in (tmp_path / "other").glob("*/record.json"))
    right = kills.facts_of(calm.folder)
    assert kills.differences(right, kills.facts_of(tmp_path / "other")) == []
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    rows = (folder / "metrics.csv").read_text(encoding="utf-8").splitlines()
    (folder / "metrics.csv").write_text("\n".join(rows[:-1]), encoding="utf-8")
    (folder / "left.tmp").touch()
    names = [
        line.split(": ")[0] for line in kills.differences(right, kills.facts_of(tmp_path / "other"))
    ]
    assert names == [
        f"{folder.name}/{name}" for name in ("left.tmp", "metrics.csv", "model.safetensors")
    ]
