"""What `tlx list` shows of runs, whatever state they are in."""

import pytest

from tlx.config import listing
from tlx.results.record import Record, to_json


def run(folder, content=None):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 0\n")
    if content is not None:
        (folder / "record.json").write_bytes(content)


@pytest.mark.parametrize(
    "content", [b'{"status": "fini', b"", b"\xff\xfe", b"[1]", b"{}"], ids=repr
)
def test_one_unreadable_record_hides_no_other_run(tmp_path, content):
    whole = Record(
        run="a", name="a", status="finished", task="classification", seed=0, budget_steps=1
    )
    run(tmp_path / "a", to_json(whole).encode())
    run(tmp_path / "b", content)
    run(tmp_path / "c")
    lines = [line.split(maxsplit=1) for line in listing.text("runs", runs_dir=tmp_path).split("\n")]
    assert lines == [["a", "finished"], ["b", "unreadable record"], ["c", "started"]]
