"""The store: nothing is computed twice, nothing damaged or foreign is read, nobody is deleted."""

import errno
import fcntl
import json
import multiprocessing
import os
import re
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forking import CONTEXT
from tlx.frozen import entries, segments
from tlx.frozen.store import NoLocks, NoRoom, Store, StoreError

FACTS = {"weights": "abc", "boundary": "layer4", "transform": {"size": 32}}
SHAPE = (3, 2)
DTYPES = [
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.float8_e4m3fn,
    torch.complex64,
    torch.int64,
    torch.uint8,
    torch.bool,
]


def value(key, shape=SHAPE):
    """An item's row, by its key."""
    seed = int.from_bytes(key.encode().ljust(6, b"\0")[:6], "little")
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def values(keys, shape=SHAPE):
    return torch.stack([value(key, shape) for key in keys])


class Computing:
    """Computes rows batch by batch and remembers for which keys."""

    def __init__(self, keys, *, batch=4, shape=SHAPE, change=lambda rows: rows):
        self.keys, self.batch, self.shape, self.change = keys, batch, shape, change
        self.seen = []

    def __call__(self, positions):
        for start in range(0, len(positions), self.batch):
            asked = [self.keys[position] for position in positions[start : start + self.batch]]
            self.seen += asked
            yield self.change(values(asked, self.shape))


def names(start, stop):
    return [f"k{i}" for i in range(start, stop)]


def rows_of(store, keys, *, facts=FACTS, shape=SHAPE, dtype=torch.float32, say=None, **options):
    """StoredRows, and the keys that were computed for them."""
    computing = Computing(keys, shape=shape, **options)
    said = say if say is not None else []
    found = store.rows(facts, keys, shape=shape, dtype=dtype, compute=computing, say=said.append)
    return found, computing.seen


def refuse(positions):
    raise AssertionError(f"computes {len(positions)} items again")
    yield


def forget():
    """As a new process would: nothing has been checked yet."""
    segments._whole.clear()
    segments._read.cache_clear()


def parts(store, pattern):
    return sorted(path for path in store.folder.glob(f"*/{pattern}") if path.name != "facts.json")


# -- what comes back ----------------------------------------------------------------------------


@pytest.mark.parametrize("resident_bytes", [0, 2**30], ids=["mapped", "resident"])
@pytest.mark.parametrize("shape", [(), (5,), (3, 2)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_was_computed_comes_back(tmp_path, dtype, shape, resident_bytes):
    store = Store(tmp_path, segment_bytes=100, resident_bytes=resident_bytes)
    keys = names(0, 23)
    expected = values(keys, shape).to(dtype)
    assert rows_of(store, keys, dtype=dtype, shape=shape, change=lambda r: r.to(dtype))[1] == keys
    forget()
    found = store.rows(FACTS, keys, shape=shape, dtype=dtype, compute=refuse)
    assert (len(found), found.computed, found.reused) == (23, 0, 23)
    assert found.bytes == expected.nbytes
    assert found.resident == (resident_bytes > 0)
    assert (found.error.largest, found.error.mean) == (0, 0)
    for positions in ([4], [22, 0, 0, 7], [], list(range(23))):
        taken = found.gather(positions)
        assert taken.dtype == dtype
        assert torch.equal(_bytes(taken), _bytes(expected[positions]))
        again = found.gather(torch.tensor(positions, dtype=torch.int32))
        assert torch.equal(_bytes(again), _bytes(taken))


def _bytes(tensor):
    return tensor.contiguous().view(-1).view(torch.uint8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn], ids=str)
def test_rounding_is_told(tmp_path, dtype):
    store, keys = Store(tmp_path, segment_bytes=64), names(0, 40)
    found, _ = rows_of(store, keys, dtype=dtype)
    exact = values(keys)
    stored = exact.to(dtype).float()
    assert torch.equal(found.tensor().float(), stored)
    relative = (stored - exact).abs() / exact.abs().clamp(min=torch.finfo(dtype).tiny)
    assert found.error.largest == pytest.approx(relative.max().item(), rel=1e-6)
    assert found.error.mean == pytest.approx(relative.mean().item(), rel=1e-5)
    assert 0 < found.error.mean < found.error.largest <= torch.finfo(dtype).eps / 2 * 1.0001
    headers = [json.loads(path.read_text()) for path in parts(store, "*.json")]
    assert len(headers) > 1
    assert max(header["rounding"]["largest"] for header in headers) == found.error.largest
    forget()
    assert rows_of(store, keys, dtype=dtype)[0].error == found.error


def test_nothing_is_rounded_where_half_precision_comes(tmp_path):
    keys = names(0, 5)
    found, _ = rows_of(
        Store(tmp_path), keys, dtype=torch.bfloat16, change=lambda rows: rows.bfloat16()
    )
    assert (found.error.largest, found.error.mean) == (0, 0)


def test_not_a_number_is_kept_and_overflow_refused(tmp_path):
    store, keys = Store(tmp_path), names(0, 2)
    odd = torch.tensor([[float("nan"), 1.0, float("inf")], [0.0, -2.0, 3.0]])
    found = store.rows(
        FACTS, keys, shape=[3], dtype=torch.float16, compute=lambda positions: iter([odd])
    )
    torch.testing.assert_close(found.tensor().float(), odd, rtol=0, atol=0, equal_nan=True)
    assert (found.error.largest, found.error.mean) == (0, 0)
    with pytest.raises(ValueError, match=r"reach 7e\+04, .*bfloat16 or float32"):
        rows_of(store, ["big"], dtype=torch.float16, change=lambda rows: rows * 0 + 7e4)
    with pytest.raises(ValueError, match="convert them first"):
        rows_of(store, ["whole"], dtype=torch.int64)


def test_gathered_rows_are_ones_own(tmp_path):
    keys = names(0, 6)
    for resident_bytes in (0, 2**20):
        store = Store(tmp_path, resident_bytes=resident_bytes)
        found, _ = rows_of(store, keys)
        found.gather([1, 2]).zero_()
        assert torch.equal(found.gather(range(6)), values(keys))
        for wrong in ([6], [-1]):
            with pytest.raises(IndexError):
                found.gather(wrong)


def test_rows_that_are_not_in_memory_have_no_tensor(tmp_path):
    found, _ = rows_of(Store(tmp_path, resident_bytes=0), names(0, 3))
    with pytest.raises(ValueError, match="use gather"):
        found.tensor()


def test_no_items_are_no_trouble(tmp_path):
    found, _ = rows_of(Store(tmp_path), [])
    assert len(found) == 0
    assert found.gather([]).shape == (0, *SHAPE)


# -- what is shared -----------------------------------------------------------------------------


def test_only_what_is_missing_is_computed(tmp_path):
    store = Store(tmp_path)
    assert rows_of(store, names(0, 10))[1] == names(0, 10)
    keys = names(5, 15)[::-1]
    found, seen = rows_of(store, keys)
    assert seen == names(10, 15)[::-1]
    assert (found.computed, found.reused) == (5, 5)
    assert torch.equal(found.tensor(), values(keys))
    found, seen = rows_of(store, names(0, 15))
    assert seen == []
    assert torch.equal(found.tensor(), values(names(0, 15)))


def test_the_same_item_twice_is_computed_once(tmp_path):
    keys = ["b", "a", "b", "c", "a", "b"]
    found, seen = rows_of(Store(tmp_path), keys)
    assert seen == ["b", "a", "c"]
    assert (len(found), found.computed, found.reused) == (6, 3, 0)
    assert torch.equal(found.tensor(), values(keys))


def test_other_facts_shapes_and_types_are_other_rows(tmp_path):
    store, keys = Store(tmp_path), names(0, 4)
    rows_of(store, keys)
    others = [
        {"facts": {**FACTS, "weights": "abd"}},
        {"facts": {**FACTS, "transform": {"size": 33}}},
        {"facts": {**FACTS, "more": None}},
        {"shape": (2, 3)},
        {"shape": (6,)},
        {"dtype": torch.float64},
        {"dtype": torch.bfloat16},
    ]
    for other in others:
        assert rows_of(store, keys, **other)[1] == keys
    assert len(entries.paths(tmp_path)) == 1 + len(others)
    assert rows_of(store, keys, facts=dict(reversed(FACTS.items())))[1] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:, :1], r"yields a tensor \[4, 1, 2\]; rows are \[3, 2\]"),
        (lambda rows: rows[:3], "yields 6 of the 8 rows"),
        (lambda rows: torch.cat([rows, rows[:1]]), "more than the 8 rows"),
    ],
)
def test_wrong_rows_are_refused(tmp_path, change, message):
    store = Store(tmp_path)
    with pytest.raises(ValueError, match=message):
        rows_of(store, names(0, 8), change=change)
    assert parts(store, "*.bin") == []
    assert not entries.paths(tmp_path)  # nor is an empty entry left


def test_what_was_finished_before_an_error_is_kept(tmp_path):
    store, keys = Store(tmp_path, segment_bytes=4 * 24), names(0, 12)

    def failing(positions):
        yield from Computing(keys)(positions[:10])
        raise KeyError("no eleventh image")

    with pytest.raises(KeyError, match="eleventh"):
        store.rows(FACTS, keys, shape=SHAPE, dtype=torch.float32, compute=failing)
    assert len(parts(store, "*.json")) == len(parts(store, "*.bin")) == 2
    assert not parts(store, ".*.tmp")
    assert rows_of(store, keys)[1] == names(8, 12)


def test_a_segment_is_closed_when_it_is_old(tmp_path):
    store = Store(tmp_path, segment_s=0.0)
    rows_of(store, names(0, 12))
    assert len(parts(store, "*.bin")) == 3


def test_a_large_batch_is_divided(tmp_path):
    store = Store(tmp_path, segment_bytes=5 * 24)
    found, _ = rows_of(store, names(0, 17), batch=17)
    assert [path.stat().st_size for path in parts(store, "*.bin")].count(5 * 24) == 3
    assert torch.equal(found.tensor(), values(names(0, 17)))


def test_checksums_cover_files_of_several_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "CHUNK_BYTES", 32)
    store, keys = Store(tmp_path), names(0, 21)
    rows_of(store, keys, batch=3)
    (header,) = parts(store, "*.json")
    assert len(json.loads(header.read_text())["crc32"]) == -(-21 * 24 // 32)
    forget()
    assert rows_of(store, keys)[1] == []


keys_of_runs = st.lists(st.lists(st.integers(0, 30), max_size=25), min_size=1, max_size=5)


@settings(max_examples=25, deadline=None)
@given(
    runs=keys_of_runs,
    segment_rows=st.integers(1, 12),
    batch=st.integers(1, 9),
    resident=st.booleans(),
    data=st.data(),
)
def test_any_runs_share_all_that_they_have_in_common(
    tmp_path_factory, runs, segment_rows, batch, resident, data
):
    folder = tmp_path_factory.mktemp("store")
    store = Store(folder, segment_bytes=24 * segment_rows, resident_bytes=resident * 2**20)
    known = set()
    for numbers in runs:
        keys = [f"k{number}" for number in numbers]
        found, seen = rows_of(store, keys, batch=batch)
        assert seen == [key for key in dict.fromkeys(keys) if key not in known]
        assert (found.computed, found.reused) == (len(seen), len({*keys} & known))
        known |= set(keys)
        if keys:
            positions = data.draw(st.lists(st.integers(0, len(keys) - 1), max_size=20))
            expected = values(keys)[positions]
            assert torch.equal(found.gather(positions), expected)
    shutil.rmtree(folder)


# -- damage -------------------------------------------------------------------------------------


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 4]))


def _flip_row(header):
    flip(header.with_suffix(".bin"), 40)


def _truncate(header):
    os.truncate(header.with_suffix(".bin"), 71)


def _lengthen(header):
    with open(header.with_suffix(".bin"), "ab") as file:
        file.write(b"\0")


def _lose(header):
    header.with_suffix(".bin").unlink()


def _break_json(header):
    header.write_text(header.read_text()[:-30])


def _other_json(header):
    header.write_text("[1]")


def _exchange_keys(header):
    text = header.read_text()
    header.write_text(text.replace('"k0"', '"?"').replace('"k1"', '"k0"').replace('"?"', '"k1"'))


def _other_crc(header):
    content = json.loads(header.read_text())
    content["crc32"][0] ^= 1
    header.write_text(json.dumps(content))


DAMAGES = [
    _flip_row,
    _truncate,
    _lengthen,
    _lose,
    _break_json,
    _other_json,
    _exchange_keys,
    _other_crc,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_told_and_made_good(tmp_path, damage):
    store, keys = Store(tmp_path, segment_bytes=4 * 24), names(0, 12)
    rows_of(store, keys)
    (damaged,) = (p for p in parts(store, "*.json") if '"k0"' in p.read_text())
    damage(damaged)
    (entry,) = entries.paths(tmp_path)
    assert list(entries.faults(entry)) == [damaged]
    forget()
    said = []
    found, seen = rows_of(store, keys, say=said)
    assert seen == names(0, 4)
    assert torch.equal(found.tensor(), values(keys))
    assert len(said) == 1
    assert entry.name in said[0]
    assert damaged.stem in said[0]
    assert "computed again" in said[0]
    assert not damaged.exists()
    assert not entries.faults(entry)


def test_damage_of_what_is_not_needed_costs_nothing(tmp_path):
    store, keys = Store(tmp_path, segment_bytes=4 * 24), names(0, 12)
    rows_of(store, keys)
    (damaged,) = (p for p in parts(store, "*.json") if '"k0"' in p.read_text())
    _flip_row(damaged)
    forget()
    assert rows_of(store, names(4, 12))[1] == []


def test_a_segment_is_checked_once_in_a_process(tmp_path, monkeypatch):
    store, keys = Store(tmp_path), names(0, 4)
    rows_of(store, keys)
    forget()
    counts = []
    real = segments._fill
    monkeypatch.setattr(segments, "_fill", lambda *args: counts.append(1) or real(*args))
    for _ in range(5):
        rows_of(store, keys)
    assert len(counts) == 1
    (data,) = parts(store, "*.bin")
    flip(data, 3)
    os.utime(data, ns=(1, 1))  # whoever writes changes the time
    assert rows_of(store, keys)[1] == keys


def test_verifying_looks_again_at_what_this_process_wrote(tmp_path):
    rows_of(Store(tmp_path), names(0, 4))
    (entry,), (data,) = entries.paths(tmp_path), parts(Store(tmp_path), "*.bin")
    before = data.stat().st_mtime_ns
    flip(data, 3)
    os.utime(data, ns=(before, before))  # as when the disk, not a program, has changed it
    assert len(entries.faults(entry)) == 1


def test_lost_facts_are_written_again(tmp_path):
    store, keys = Store(tmp_path), names(0, 4)
    rows_of(store, keys)
    (entry,) = entries.paths(tmp_path)
    (entry / "facts.json").write_text('{"facts": {}}')
    assert list(entries.faults(entry)) == [entry / "facts.json"]
    assert rows_of(store, keys)[1] == []
    assert entries.read_identity(entry)["facts"] == FACTS


def test_repair_deletes_what_is_damaged_and_left_over(tmp_path):
    store, keys = Store(tmp_path, segment_bytes=4 * 24), names(0, 8)
    rows_of(store, keys)
    (entry,) = entries.paths(tmp_path)
    damaged = segments.headers(entry)[0]
    _flip_row(damaged)
    (entry / f"{'0' * 16}.bin").write_bytes(b"no header")
    (entry / ".x.bin.tmp").write_bytes(b"begun")
    entries.repair(entry, list(entries.faults(entry)), say=print)
    assert not entries.faults(entry)
    kept = {path.suffix for path in entry.iterdir()}
    assert kept == {".json", ".bin", ".lock", ""}
    assert len(list(entry.glob("*.bin"))) == 1
    assert len(rows_of(store, keys)[1]) == 4


# -- processes ----------------------------------------------------------------------------------


def _extract(folder: Path, keys: list[str], log: Path, go: float, delay_s: float) -> None:
    """Computes slowly, and notes each item in a file."""

    def compute(positions):
        for rows in _noted(positions):
            time.sleep(delay_s)
            yield rows

    def _noted(positions):
        for position in positions:
            with open(log, "a") as file:
                file.write(f"{keys[position]}\n")
            yield values([keys[position]])

    time.sleep(max(0.0, go - time.time()))
    store = Store(folder, segment_bytes=5 * 24)
    found = store.rows(FACTS, keys, shape=SHAPE, dtype=torch.float32, compute=compute)
    assert torch.equal(found.tensor(), values(keys))


def started(*argument_lists):
    children = [CONTEXT.Process(target=_extract, args=arguments) for arguments in argument_lists]
    for child in children:
        child.start()
    return children


@pytest.mark.slow
def test_processes_at_once_compute_each_item_once(tmp_path):
    log, go = tmp_path / "log", time.time() + 1.0
    store = tmp_path / "store"
    children = started(
        (store, names(0, 40), log, go, 0.01),
        (store, names(20, 60), log, go, 0.01),
        (store, names(0, 60)[::-1], log, go, 0.01),
    )
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert sorted(log.read_text().split()) == sorted(names(0, 60))


def test_a_killed_writer_leaves_nothing_that_is_read(tmp_path):
    store, log, keys = Store(tmp_path / "store"), tmp_path / "log", names(0, 30)
    (child,) = started((store.folder, keys, log, 0.0, 0.05))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (
        not log.exists() or len(log.read_text().split()) < 13  # two segments and a part of one
    ):
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.join(30)
    assert child.exitcode == -signal.SIGKILL
    assert parts(store, ".*.tmp")
    (entry,) = entries.paths(store.folder)
    assert not entries.faults(entry)
    done = [key for h in segments.headers(entry) for key in segments.read(h).keys]
    assert done
    assert len(done) % 5 == 0
    found, seen = rows_of(store, keys)
    assert seen == [key for key in keys if key not in done]
    assert torch.equal(found.tensor(), values(keys))
    assert not parts(store, ".*.tmp")


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("at", range(4))
def test_a_writer_that_ends_at_any_step_leaves_nothing_that_is_read(
    tmp_path, monkeypatch, step, at
):
    """Whichever sync or rename is the last: another run finds all or nothing of a segment."""
    store, keys, count = Store(tmp_path), names(0, 4), [0]
    real = getattr(os, step)

    class End(BaseException):
        pass

    def ending(*arguments):
        count[0] += 1
        if count[0] > at:
            raise End
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, step, ending)
        patch.setattr(segments.Writer, "discard", lambda self: self._file.close())
        patch.setattr(entries, "remove", lambda *arguments, **options: False)
        try:
            rows_of(store, keys)
        except End:
            assert count[0] == at + 1
    found, seen = rows_of(store, keys)
    assert seen in ([], keys)
    assert torch.equal(found.tensor(), values(keys))
    names_left = {path.name.lstrip(".").partition(".")[0] for path in tmp_path.glob("*/*")}
    assert len(names_left) == 4  # used, writer, facts and one segment


def test_waiting_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(entries, "SAY_AFTER_S", 0.05)
    store, keys = Store(tmp_path), names(0, 4)
    first, said = threading.Event(), []

    def slow(positions):
        first.set()
        time.sleep(0.4)
        return Computing(keys)(positions)

    arguments = {"shape": SHAPE, "dtype": torch.float32, "compute": slow}
    thread = threading.Thread(target=lambda: store.rows(FACTS, keys, **arguments))
    thread.start()
    assert first.wait(10)
    found, seen = rows_of(store, keys, say=said)
    thread.join()
    assert seen == []
    assert said == ["waits for another run that computes the same activations"]
    assert (found.computed, found.reused) == (0, 4)


def test_readers_do_not_wait_for_a_writer(tmp_path):
    store, keys = Store(tmp_path), names(0, 4)
    rows_of(store, keys)
    (entry,) = entries.paths(tmp_path)
    with entries.writing(entry, say=print):
        found = store.rows(FACTS, keys, shape=SHAPE, dtype=torch.float32, compute=refuse)
    assert torch.equal(found.tensor(), values(keys))


def test_many_readers_at_once(tmp_path):
    store, keys = Store(tmp_path, segment_bytes=7 * 24, resident_bytes=0), names(0, 50)
    rows_of(store, keys)
    expected, wrong = values(keys), []

    def read(seed):
        forget()
        generator = torch.Generator().manual_seed(seed)
        found = store.rows(FACTS, keys, shape=SHAPE, dtype=torch.float32, compute=refuse)
        for _ in range(30):
            positions = torch.randint(50, (16,), generator=generator)
            if not torch.equal(found.gather(positions), expected[positions]):
                wrong.append(seed)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def without(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without)
    with pytest.raises(NoLocks, match=f"{re.escape(str(tmp_path))}.*cache=off") as caught:
        rows_of(Store(tmp_path), names(0, 2))
    assert isinstance(caught.value, StoreError)


def _leave_as_a_fork_does(found) -> None:
    found.close()
    os._exit(0)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_reader_does_not_give_up_its_parents_entry(tmp_path):
    store = Store(tmp_path)
    found, _ = rows_of(store, names(0, 4))
    (entry,) = entries.paths(tmp_path)
    child = multiprocessing.get_context("fork").Process(target=_leave_as_a_fork_does, args=(found,))
    child.start()
    child.join()
    assert not entries.remove(entry)
    found.close()
    assert entries.remove(entry)


# -- room ---------------------------------------------------------------------------------------


def filled(store, number, *, rows=20, used=None):
    """An entry, as if used at a time; its folder and open rows."""
    facts = {**FACTS, "number": number}
    before = set(entries.paths(store.folder))
    found, _ = rows_of(store, names(0, rows), facts=facts)
    (entry,) = set(entries.paths(store.folder)) - before
    if used is not None:
        os.utime(entry / "used", (used, used))
    return entry, found


def test_the_least_recently_used_makes_room(tmp_path):
    store = Store(tmp_path)
    old, rows_old = filled(store, 1, used=300)
    older, rows_older = filled(store, 2, used=200)
    oldest, rows_oldest = filled(store, 3, used=100)
    for found in (rows_old, rows_older, rows_oldest):
        found.close()
    total = sum(entries.size(path) for path in entries.paths(tmp_path))
    tight = Store(tmp_path, budget_bytes=total + entries.size(old) // 2)
    said = []
    rows_of(tight, names(0, 20), facts={"new": 1}, say=said)
    assert not oldest.exists()
    assert old.exists()
    assert older.exists()
    assert len(said) == 1
    assert oldest.name in said[0]
    assert not list(tmp_path.glob(".*"))


def test_opening_is_using(tmp_path):
    store = Store(tmp_path)
    entry, found = filled(store, 1, used=100)
    assert entries.last_used(entry) == 100
    found.close()
    rows_of(store, names(0, 20), facts={**FACTS, "number": 1})
    assert time.time() - entries.last_used(entry) < 60


def test_what_is_in_use_stays(tmp_path):
    store = Store(tmp_path)
    first, rows_first = filled(store, 1, used=100)
    second, rows_second = filled(store, 2, used=200)
    rows_second.close()
    total = entries.size(first) + entries.size(second)
    tight = Store(tmp_path, budget_bytes=total + 10)
    rows_of(tight, names(0, 20), facts={"new": 1})[0].close()
    assert first.exists()
    assert not second.exists()
    assert torch.equal(rows_first.gather(range(20)), values(names(0, 20)))
    assert not entries.remove(first)
    del rows_first  # nobody refers to them any more
    assert entries.remove(first)


def test_too_large_is_known_before_anything_is_computed_or_deleted(tmp_path):
    store = Store(tmp_path)
    entry, found = filled(store, 1)
    found.close()
    tight = Store(tmp_path, budget_bytes=1000)
    with pytest.raises(NoRoom, match=r"do not fit.*budget of 0\.0 MB") as caught:
        tight.rows({"new": 1}, names(0, 50), shape=SHAPE, dtype=torch.float32, compute=refuse)
    error = caught.value
    assert error.budget == 1000
    assert 50 * 24 <= error.needed < 50 * 24 + 1000
    assert error.free > 0
    assert entries.paths(tmp_path) == [entry]
    assert rows_of(store, names(0, 20), facts={**FACTS, "number": 1})[1] == []


def test_what_is_there_fits_into_any_budget(tmp_path):
    rows_of(Store(tmp_path), names(0, 20))
    assert rows_of(Store(tmp_path, budget_bytes=10), names(0, 20))[1] == []


def test_the_disk_keeps_a_reserve(tmp_path, monkeypatch):
    class Disk:
        total, used, free = 100_000, 94_000, 6_000

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk)
    rows_of(Store(tmp_path), names(0, 30))  # 720 bytes, of 6,000 less 5,000
    with pytest.raises(NoRoom, match=r"no budget, 0\.0 MB free") as caught:
        rows_of(Store(tmp_path), names(100, 150))
    assert caught.value.free == 6_000
    Disk.total, Disk.free = 2**50, 2**30 + 1_000
    with pytest.raises(NoRoom):
        rows_of(Store(tmp_path), names(100, 150))
    Disk.free += 1_000
    rows_of(Store(tmp_path), names(100, 150))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_leaves_whole_segments(tmp_path, monkeypatch, number):
    store, keys, written = Store(tmp_path, segment_bytes=4 * 24), names(0, 12), [0]

    def write(descriptor, data):
        if written[0] >= 200:
            raise OSError(number, "full")
        written[0] += len(data[:50])
        return os.write(descriptor, data[:50])

    with monkeypatch.context() as patch:
        patch.setattr(segments, "_write_some", write)
        with pytest.raises(NoRoom) as caught:
            rows_of(store, keys)
    assert isinstance(caught.value.__cause__, OSError)
    assert not parts(store, ".*.tmp")
    assert len(parts(store, "*.bin")) == len(parts(store, "*.json")) == 2
    assert rows_of(store, keys)[1] == names(8, 12)


@pytest.mark.parametrize("at", range(3))  # of the facts, the rows, the header
def test_a_full_disk_that_is_seen_at_the_sync_leaves_nothing(tmp_path, monkeypatch, at):
    store, keys, count, real = Store(tmp_path), names(0, 4), [0], os.fsync
    rows_of(store, ["before"])

    def sync(descriptor):
        count[0] += 1
        if count[0] > at:
            raise OSError(errno.ENOSPC, "full")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        with pytest.raises(NoRoom):
            rows_of(store, keys)
    assert not parts(store, ".*.tmp")
    assert len(parts(store, "*.bin")) == 1


def test_the_computation_s_own_errors_are_not_the_store_s(tmp_path):
    def compute(positions):
        raise OSError(errno.ENOSPC, "in /tmp")
        yield

    with pytest.raises(OSError, match="in /tmp"):
        Store(tmp_path).rows(FACTS, ["a"], shape=[2], dtype=torch.float32, compute=compute)


def test_a_half_deleted_entry_is_deleted(tmp_path):
    store = Store(tmp_path)
    (tmp_path / ".gone-abc-1").mkdir(parents=True)
    rows_of(store, names(0, 4))
    assert not list(tmp_path.glob(".gone*"))


def test_an_entry_that_was_made_anew_while_it_was_being_opened_is_held(tmp_path, monkeypatch):
    store, real, done = Store(tmp_path), fcntl.flock, []
    rows_of(store, names(0, 4))[0].close()
    (entry,) = entries.paths(tmp_path)

    def slow(descriptor, how):
        if how == fcntl.LOCK_SH and not done:
            done.append(1)
            assert entries.remove(entry)
            entry.mkdir()
            (entry / "used").touch()
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    held = entries.hold(entry)
    assert not entries.remove(entry)
    held.close()
    assert entries.remove(entry)


def test_opening_and_deleting_at_once(tmp_path):
    """An entry that is deleted while it is being opened is opened anew, and then stays."""
    over, removed = threading.Event(), []

    def delete():
        while not over.is_set():
            removed.extend(path for path in entries.paths(tmp_path) if entries.remove(path))

    thread = threading.Thread(target=delete)
    thread.start()
    store, keys, rounds = Store(tmp_path), names(0, 6), 0
    try:
        while rounds < 100 or not removed:  # a busy machine may let the deleter in late
            found, _ = rows_of(store, keys)
            assert torch.equal(found.gather(range(6)), values(keys))
            assert [entry.name for entry in entries.paths(tmp_path)]
            found.close()
            rounds += 1
            assert rounds < 100_000, "nothing was ever deleted between two openings"
            time.sleep(0)  # hands the interpreter over
    finally:
        over.set()
        thread.join()
