"""`tlx cache`: what is stored is listed, verified and cleared, and what is in use stays."""

import os
import subprocess
import sys
import time

import pytest
import torch

from tlx import cli
from tlx.frozen import entries, segments
from tlx.frozen.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache")


def fill(store, boundary, *, count=4, days=0.0, dtype=torch.float32):
    """An entry that was used some days ago, and its open rows."""
    before = set(entries.paths(store.folder))
    found = store.rows(
        {"model": "resnet10t", "boundary": boundary, "transform": {"size": 32}},
        [f"item{i}" for i in range(count)],
        shape=[2, 3],
        dtype=dtype,
        compute=lambda positions: iter([torch.zeros(len(positions), 2, 3)]),
    )
    (entry,) = set(entries.paths(store.folder)) - before
    then = time.time() - 86_400 * days
    os.utime(entry / "used", (then, then))
    return entry, found


def says(capsys, store, *words, status=0):
    line = ["cache", words[0], "--dir", str(store.folder), *map(str, words[1:])]
    assert cli.main(line) == status
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return out + err


def test_list(store, capsys):
    assert "0.0 MB in 0 entries" in says(capsys, store, "list")
    old, rows = fill(store, "layer4", days=3)
    rows.close()
    new, rows = fill(store, "layer3", count=7, dtype=torch.bfloat16)
    lines = says(capsys, store, "list").splitlines()
    assert [new.name in lines[0], old.name in lines[2]] == [True, True]
    assert "7 items" in lines[0]
    assert lines[0].endswith("in use")
    assert not lines[2].endswith("in use")
    day = time.strftime("%Y-%m-%d", time.localtime(time.time() - 3 * 86_400))
    assert f"4 items  last used {day}" in lines[2]
    # facts are listed in the order of their names
    assert 'boundary=layer3, model=resnet10t, transform={"size": 32}' in lines[1]
    assert lines[1].endswith("rows 2×3 bfloat16")
    assert "in 2 entries" in lines[4]
    rows.close()


def test_verify(store, capsys):
    first, _ = fill(store, "layer4")
    second, _ = fill(store, "layer3")
    assert "2 entries" in says(capsys, store, "verify")
    (header,) = segments.headers(first)
    data = header.with_suffix(".bin")
    data.write_bytes(b"x" + data.read_bytes()[1:])
    (second / "facts.json").write_text("{}")
    for _ in range(2):
        out = says(capsys, store, "verify", status=1)
        assert f"{first.name}: {data.name} differs from its checksum" in out
        assert f"{second.name}: facts.json does not belong" in out
        assert "damaged: 2; --repair deletes it" in out
    assert f"{'':15}facts.json is damaged" in says(capsys, store, "list")
    out = says(capsys, store, "verify", "--repair")
    assert f"{header.name} deleted" in out
    assert not data.exists()
    assert "are whole" in says(capsys, store, "verify")


def test_clear_deletes_only_with_yes(store, capsys):
    entry, rows = fill(store, "layer4")
    rows.close()
    out = says(capsys, store, "clear")
    assert entry.name in out
    assert "--yes deletes it" in out
    assert entry.exists()
    assert "0.0 MB deleted" in says(capsys, store, "clear", "--yes")
    assert list(store.folder.iterdir()) == []
    assert "nothing to delete" in says(capsys, store, "clear", "--yes")


def test_clear_what_was_not_used(store, capsys):
    old, rows = fill(store, "layer4", days=8)
    rows.close()
    new, rows = fill(store, "layer3", days=6)
    rows.close()
    assert new.name not in says(capsys, store, "clear", "--unused-days", 7, "--yes")
    assert entries.paths(store.folder) == [new]
    assert not old.exists()


def test_what_was_not_used_is_told_by_the_clock_that_dates_files(store, capsys, monkeypatch):
    entry, rows = fill(store, "layer4", days=6)
    rows.close()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 30 * 86_400.0)
    assert "nothing to delete" in says(capsys, store, "clear", "--unused-days", 7, "--yes")
    assert entry.exists()


def test_clear_one(store, capsys):
    first, rows = fill(store, "layer4")
    rows.close()
    second, rows = fill(store, "layer3")
    rows.close()
    assert "begins 2 entries" in says(capsys, store, "clear", "", "--yes", status=2)
    out = says(capsys, store, "clear", "xyz", "--yes", status=2)
    assert "'xyz' begins 0 entries" in out
    assert first.name in out
    says(capsys, store, "clear", first.name[:12], "--yes")
    assert entries.paths(store.folder) == [second]


def test_what_is_in_use_is_not_cleared(store, capsys):
    used, rows = fill(store, "layer4")
    free, other = fill(store, "layer3")
    other.close()
    out = says(capsys, store, "clear", "--yes")
    assert f"{used.name}         4 items" in out
    assert "stays, as it is in use" in out
    assert entries.paths(store.folder) == [used]
    assert not free.exists()
    rows.close()
    says(capsys, store, "clear", "--yes")
    assert entries.paths(store.folder) == []


def test_an_action_is_needed(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["cache"])
    assert "ACTION" in capsys.readouterr().err


def test_listing_does_not_import_torch(store):
    fill(store, "layer4")[1].close()
    code = (
        "import sys; from tlx import cli; "
        f"status = cli.main(['cache', 'list', '--dir', {str(store.folder)!r}]); "
        "sys.exit(status or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "4 items" in done.stdout
