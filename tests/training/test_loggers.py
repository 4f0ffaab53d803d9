"""Loggers: rows are neither lost nor doubled, W&B holds what it should, never ends a run."""

import csv as csv_module
import http.server
import json
import os
import socket
import struct
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from forking import CONTEXT
from tlx.base.secrecy import masked
from tlx.base.shown import Lines, Matrix, Pictures
from tlx.training.logs import loggers, wandb_logger
from tlx.training.logs.run_logger import RunLogger

SECRET = "planted-5ecret-value"


def run_info(folder, **changes) -> loggers.RunInfo:
    given = dict(
        id="digits-full-s0-0123456789",
        dir=Path(folder),
        name="digits full",
        group="my-study",
        job_type="train",
        tags=("one", "two"),
        config={
            "optimizer": {"lr": 0.125},
            "hf_token": SECRET,
            "proxy": f"http://user:{SECRET}@host/x",
        },
    )
    return loggers.RunInfo(**{**given, **changes})


def rows(folder) -> list[dict[str, str]]:
    with open(Path(folder) / "metrics.csv", newline="") as file:
        return list(csv_module.DictReader(file))


class TestMasking:
    @pytest.mark.parametrize(
        "key",
        ["token", "hf_token", "api_key", "WANDB_API_KEY", "apikey", "password", "client_secret"],
    )
    def test_hidden(self, key):
        assert masked({"a": [{key: SECRET}]}) == {"a": [{key: "***"}]}

    @pytest.mark.parametrize(
        ("key", "value"),
        [("tokenizer", "bert"), ("token", True), ("max_tokens", 5), ("monkey", "x"), ("token", "")],
    )
    def test_shown(self, key, value):
        assert masked({key: value}) == {key: value}

    def test_credentials_in_addresses_and_lists_of_tokens(self):
        assert masked({"url": "s3://me:pw@host/x"}) == {"url": "s3://me:***@host/x"}
        assert masked({"api_key": ["a", "b"]}) == {"api_key": ["***", "***"]}


class TestCsv:
    def test_one_row_a_step_with_columns_that_grow(self, tmp_path):
        logger = loggers.csv(run_info(tmp_path / "new"))
        logger.log_metrics({"train/loss": 1.5, "epoch": 0}, step=1)
        logger.log_metrics({"train/loss": 0.1 + 0.2}, step=2)
        logger.log_metrics({"val/accuracy": torch.tensor(0.5)}, step=2)
        logger.log_metrics({"train/loss": float("nan"), "a,b": 1}, step=3)
        logger.finish("finished")
        found = rows(tmp_path / "new")
        assert [row["step"] for row in found] == ["1", "2", "3"]
        assert list(found[0]) == ["step", "train/loss", "epoch", "val/accuracy", "a,b"]
        assert float(found[1]["train/loss"]) == 0.1 + 0.2
        assert found[1]["val/accuracy"] == "0.5"
        assert found[0]["val/accuracy"] == ""
        assert found[2]["train/loss"] == "nan"
        assert os.listdir(tmp_path / "new") == ["metrics.csv"]

    def test_figures_of_one_step_in_any_order_join_without_rewriting(self, tmp_path):
        logger = loggers.csv(run_info(tmp_path))
        logger.log_metrics({"a": 1, "b": 2}, step=0)
        inode = (tmp_path / "metrics.csv").stat().st_ino
        logger.log_metrics({"b": 3}, step=5)
        logger.log_metrics({"a": 4}, step=5)
        logger.log_metrics({"a": 6}, step=7)
        assert (tmp_path / "metrics.csv").stat().st_ino == inode
        assert [(r["step"], r["a"], r["b"]) for r in rows(tmp_path)] == [
            ("0", "1.0", "2.0"),
            ("5", "4.0", "3.0"),
            ("7", "6.0", ""),
        ]

    def test_a_figure_logged_again_for_a_step_replaces_the_first(self, tmp_path):
        logger = loggers.csv(run_info(tmp_path))
        logger.log_metrics({"a": 0.123456789}, step=1)
        logger.log_metrics({"a": 2}, step=1)
        assert rows(tmp_path) == [{"step": "1", "a": "2.0"}]

    def test_resume_drops_later_steps_and_goes_on(self, tmp_path):
        straight = loggers.csv(run_info(tmp_path / "straight"))
        for step in range(1, 11):
            straight.log_metrics({"loss": step / 7}, step=step)
            if step % 4 == 0:
                straight.log_metrics({"val": step / 3}, step=step)
        first = loggers.csv(run_info(tmp_path / "killed"))
        for step in range(1, 8):
            first.log_metrics({"loss": step / 7 if step < 6 else -1}, step=step)
            if step % 4 == 0:
                first.log_metrics({"val": step / 3}, step=step)
        second = loggers.csv(run_info(tmp_path / "killed"))
        second.resume(5)
        for step in range(6, 11):
            second.log_metrics({"loss": step / 7}, step=step)
            if step % 4 == 0:
                second.log_metrics({"val": step / 3}, step=step)
        files = [(tmp_path / name / "metrics.csv").read_bytes() for name in ("straight", "killed")]
        assert files[0] == files[1]

    def test_a_fresh_start_forgets_all(self, tmp_path):
        loggers.csv(run_info(tmp_path)).log_metrics({"old": 1}, step=0)
        logger = loggers.csv(run_info(tmp_path))
        logger.resume(None)
        assert (tmp_path / "metrics.csv").read_text() == "step\n"
        logger.log_metrics({"new": 1}, step=0)
        assert rows(tmp_path) == [{"step": "0", "new": "1.0"}]

    def test_half_a_line_is_dropped(self, tmp_path):
        (tmp_path / "metrics.csv").write_text("step,loss\n1,0.5\n2,0.")
        logger = loggers.csv(run_info(tmp_path))
        logger.resume(2)
        logger.log_metrics({"loss": 0.25}, step=2)
        assert [r["loss"] for r in rows(tmp_path)] == ["0.5", "0.25"]

    def test_garbage_is_dropped(self, tmp_path):
        (tmp_path / "metrics.csv").write_bytes(b"step,loss\n\xff\xfe,1\n3,0.5,9\n4,1\n")
        logger = loggers.csv(run_info(tmp_path))
        logger.resume(9)
        assert [r["step"] for r in rows(tmp_path)] == ["4"]

    def test_a_step_is_needed(self, tmp_path):
        with pytest.raises(ValueError, match="step"):
            loggers.csv(run_info(tmp_path)).log_metrics({"a": 1})

    def test_other_ranks_write_nothing(self, tmp_path, monkeypatch):
        from pytorch_lightning.utilities.rank_zero import rank_zero_only

        monkeypatch.setattr(rank_zero_only, "rank", 1)
        logger = loggers.csv(run_info(tmp_path))
        logger.resume(0)
        logger.log_metrics({"a": 1}, step=0)
        assert os.listdir(tmp_path) == []

    def test_kill_9_and_resume_lose_and_double_nothing(self, tmp_path):
        start = 0
        for attempt in range(4):
            process = CONTEXT.Process(target=log_on, args=(tmp_path, start))
            process.start()
            while process.is_alive() and len(rows_so_far(tmp_path)) <= start + 60:
                time.sleep(0.005)
            time.sleep(0.007 * attempt)
            process.kill()
            process.join()
            last = len(rows(tmp_path))
            assert last > start
            start = max(0, last - 5)  # the checkpoint is some steps behind
        logger = loggers.csv(run_info(tmp_path))
        logger.resume(start)
        found = rows(tmp_path)
        assert [int(row["step"]) for row in found] == list(range(1, start + 1))
        for row in found:
            step = int(row["step"])
            assert float(row["loss"]) == step / 7
            if step % 50 == 0:
                assert float(row[f"val{step // 100}"]) == step / 3


def log_on(folder, start):
    """Logs from a step on until it is killed; every 100 steps another column begins."""
    logger = loggers.csv(loggers.RunInfo(id="r", dir=folder, name="r"))
    logger.resume(start if start else None)
    for step in range(start + 1, 10**7):
        logger.log_metrics({"loss": step / 7}, step=step)
        if step % 50 == 0:
            logger.log_metrics({f"val{step // 100}": step / 3}, step=step)


def rows_so_far(folder) -> list[str]:
    path = Path(folder) / "metrics.csv"
    return path.read_text().splitlines()[1:] if path.exists() else []


def wandb_records(path):
    """The records of a .wandb file: LevelDB-log blocks of 32 KiB after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data = path.read_bytes()
    assert data[:4] == b":W&B"
    at, parts = 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # full, last
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def items(updates) -> dict:
    return {
        (item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in updates
    }


@pytest.fixture
def logged_out(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb-config"))
    import wandb

    wandb.teardown()
    yield monkeypatch
    wandb.teardown()


def test_the_offline_wandb_file_holds_what_it_should_and_no_secret(tmp_path, logged_out):
    logged_out.setenv("PLANTED", SECRET)
    logged_out.setattr(sys, "argv", [__file__, f"--key={SECRET}", "--flag-xyz"])
    logged_out.chdir(Path(__file__).parent)
    logger = loggers.wandb(run_info(tmp_path / "run"))
    logger.log_metrics({"train/loss": 1.5}, step=3)
    logger.log_metrics({"val/accuracy": 0.25}, step=3)
    logger.log_metrics({"train/loss": 0.5}, step=2)
    pictures = Pictures([np.zeros((8, 8, 3), np.uint8)], ["a seven"])
    logger.log_view("samples", lambda: pictures, step=3)
    logger.log_view("confusion", lambda: Matrix(["u", "v"], [[1, 2], [3, 4]]), step=3)
    logger.log_summary({"test/accuracy": 0.75})
    logger.finalize("success")
    logger.log_metrics({"train/loss": 0.25}, step=4)
    logger.finish("finished")
    (path,) = (tmp_path / "run").glob("wandb/offline-run-*/run-digits-full-s0-0123456789.wandb")
    records = list(wandb_records(path))
    (run,) = (r.run for r in records if r.WhichOneof("record_type") == "run")
    assert (run.run_id, run.display_name) == ("digits-full-s0-0123456789", "digits full")
    assert (run.run_group, run.job_type, run.project) == ("my-study", "train", "tlx")
    assert list(run.tags) == ["one", "two"]
    assert not run.host
    config = items(run.config.update)
    assert config["optimizer"] == {"lr": 0.125}
    assert config["hf_token"] == "***"
    lines = [items(r.history.item) for r in records if r.WhichOneof("record_type") == "history"]
    assert [(x["step"], x["train/loss"]) for x in lines if "train/loss" in x] == [
        (3, 1.5),
        (2, 0.5),
        (4, 0.25),
    ]
    assert any(x.get("val/accuracy") == 0.25 for x in lines)
    assert any("samples/captions" in x or "samples" in x for x in lines)
    summary = {}
    for record in records:
        if record.WhichOneof("record_type") == "summary":
            summary |= items(record.summary.update)
    assert summary["test/accuracy"] == 0.75
    (end,) = (r.exit for r in records if r.WhichOneof("record_type") == "exit")
    assert end.exit_code == 0
    metrics = [r.metric for r in records if r.WhichOneof("record_type") == "metric"]
    assert ("*", "step") in [(m.glob_name, m.step_metric) for m in metrics]
    for file in (tmp_path / "run").rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            for hidden in (SECRET, "--flag-xyz", "test_loggers", socket.gethostname() + "\n"):
                assert hidden.encode() not in content, (file, hidden)


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_run_that_did_not_finish_does_not_show_as_finished(tmp_path, logged_out, status):
    logger = loggers.wandb(run_info(tmp_path, id="r"))
    logger.log_metrics({"x": 1.0}, step=0)
    logger.finish(status)
    (path,) = tmp_path.glob("wandb/offline-run-*/run-r.wandb")
    (end,) = (r.exit for r in wandb_records(path) if r.WhichOneof("record_type") == "exit")
    assert end.exit_code == 1


def test_wandb_is_offline_for_who_is_not_logged_in(tmp_path, logged_out):
    logger = loggers.wandb(run_info(tmp_path / "run"))
    assert logger.experiment.offline
    logger.finish("finished")
    logger.log_metrics({"late": 1.0}, step=9)  # ignored, without a new run
    assert len(list((tmp_path / "run" / "wandb").glob("*run-*"))) == 1


def test_two_wandb_runs_in_one_process_are_two(tmp_path, logged_out):
    runs = [loggers.wandb(run_info(tmp_path / i, id=f"run-{i}")) for i in "ab"]
    assert [logger.experiment.id for logger in runs] == ["run-a", "run-b"]
    for logger in runs:
        logger.log_metrics({"x": 1.0}, step=0)
        logger.finish("finished")
    for i in "ab":
        (path,) = (tmp_path / i).glob(f"wandb/offline-run-*/run-run-{i}.wandb")
        histories = [r for r in wandb_records(path) if r.WhichOneof("record_type") == "history"]
        assert len(histories) == 1


def test_a_long_offline_file_is_complete_when_finish_returns(tmp_path, logged_out, caplog):
    logger = loggers.wandb(run_info(tmp_path, id="r"))
    for step in range(3):
        figures = {f"x{step}/{i}/{'y' * 60}": 1.0 for i in range(1000)}  # over a block each
        logger.log_metrics(figures, step=step)
    logger.finish("finished")
    (path,) = tmp_path.glob("wandb/offline-run-*/run-r.wandb")
    kinds = [record.WhichOneof("record_type") for record in wandb_records(path)]
    assert path.stat().st_size > 3 * 32768
    assert (kinds.count("history"), kinds[-1]) == (3, "exit")
    assert "finish failed" not in caplog.text


def test_a_file_that_never_gets_complete_is_a_warning(tmp_path, logged_out, caplog, monkeypatch):
    monkeypatch.setattr(wandb_logger, "FILE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(wandb_logger, "_has_exit", lambda path: False)
    logger = loggers.wandb(run_info(tmp_path, id="r"))
    logger.log_metrics({"x": 1.0}, step=0)
    logger.finish("finished")
    assert "finish failed: TimeoutError" in caplog.text
    assert "run-r.wandb is not complete" in caplog.text


@pytest.fixture
def silent_server():
    """Accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def log_online(tmp_path, monkeypatch, address, **options) -> tuple[float, object]:
    monkeypatch.setenv("WANDB_BASE_URL", address)
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    import wandb

    wandb.setup()  # its own start is not the server's delay
    logger = loggers.wandb(run_info(tmp_path / "run"), **options)
    begun = time.monotonic()
    logger.log_metrics({"train/loss": 1.0}, step=0)
    return time.monotonic() - begun, logger


def test_an_unreachable_server_means_offline_at_once(tmp_path, logged_out, caplog):
    took_s, logger = log_online(tmp_path, logged_out, "http://127.0.0.1:9")
    assert took_s < 30  # W&B itself waits 100 s
    assert logger.experiment.offline
    assert "offline" in caplog.text
    logger.finish("finished")
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*"))


def test_a_silent_server_delays_by_the_timeout_only(tmp_path, logged_out, silent_server):
    took_s, logger = log_online(tmp_path, logged_out, silent_server, init_timeout_s=1.5)
    assert took_s < 30  # W&B itself waits 100 s
    assert logger.experiment.offline
    logger.finish("finished")


def test_a_server_that_refuses_means_offline(tmp_path, logged_out, caplog):
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        _, logger = log_online(tmp_path, logged_out, address)
        assert logger.experiment is not None
        assert logger.experiment.offline
        assert "offline" in caplog.text
        logger.finish("finished")
        server.shutdown()


def test_whatever_breaks_in_wandb_is_a_warning(tmp_path, logged_out, caplog):
    logger = loggers.wandb(run_info(tmp_path / "run"))

    class Broken:
        def __getattr__(self, name):
            raise RuntimeError("wandb broke")

    logger.log_metrics({"a": 1.0}, step=0)
    real, logger._wandb_run = logger._wandb_run, Broken()
    for _ in range(3):
        logger.log_metrics({"a": 1.0}, step=0)
    logger.log_view("x", lambda: Pictures([object()], ["a"]))
    logger.log_view("x", lambda: Matrix(["a", "b"], [[1]]))
    logger.log_summary({"a": 1})
    logger.finish("failed")
    assert caplog.text.count("log failed") == 1
    real.finish()


def test_disabled_wandb_and_other_ranks_start_nothing(tmp_path, logged_out):
    from pytorch_lightning.utilities.rank_zero import rank_zero_only

    loggers.wandb(run_info(tmp_path), mode="disabled").log_metrics({"a": 1}, step=0)
    logged_out.setenv("WANDB_MODE", "disabled")
    loggers.wandb(run_info(tmp_path)).log_metrics({"a": 1}, step=0)
    logged_out.setattr(rank_zero_only, "rank", 1)
    logger = loggers.wandb(run_info(tmp_path), mode="offline")
    logger.log_metrics({"a": 1}, step=0)
    logger.finish("finished")
    assert not (tmp_path / "wandb").exists()


@pytest.mark.parametrize("wrong", [{"mode": "of"}, {"project": ""}, {"init_timeout_s": 0}])
def test_wrong_wandb_options(tmp_path, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        loggers.wandb(run_info(tmp_path), **wrong)


def test_tensorboard_holds_scalars_pictures_and_hides_repeated_steps(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = loggers.tensorboard(run_info(tmp_path))
    for step in range(5):
        first.log_metrics({"loss": float(step)}, step=step)
    first.save()
    second = loggers.tensorboard(run_info(tmp_path))
    second.resume(2)
    second.log_metrics({"loss": 30.0}, step=3)
    images = [Image.new("L", (8, 8)), np.zeros((8, 8, 3), np.uint8)]
    second.log_view("samples", lambda: Pictures(images, ["a", "b"]))
    second.log_view("confusion", lambda: Matrix(["u", "v"], [[1, 2], [3, 4]]))
    second.log_view("texts", lambda: Lines(["input"], [["a text"]]))
    second.log_view("nothing", lambda: None)
    second.log_summary({"accuracy": 0.5, "name": "x"})
    second.finalize("success")
    second.finish("finished")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [
        (0, 0.0),
        (1, 1.0),
        (2, 2.0),
        (3, 30.0),
    ]
    assert events.Scalars("summary/accuracy")[0].value == 0.5
    assert set(events.Tags()["images"]) == {"samples/0", "samples/1", "confusion"}
    told = {"samples/captions", "confusion/counts", "texts"}
    assert {name.removesuffix("/text_summary") for name in events.Tags()["tensors"]} == told


def test_without_tensorboard_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match="pip install tensorboard"):
        loggers.tensorboard(run_info(tmp_path))


@pytest.mark.parametrize("kind", ["csv", "wandb", "tensorboard"])
def test_every_logger_offers_everything_and_survives_several_fits(tmp_path, kind, logged_out):
    if kind == "tensorboard":
        pytest.importorskip("tensorboard")
    logger = getattr(loggers, kind)(run_info(tmp_path))
    assert isinstance(logger, RunLogger)
    assert (logger.name, logger.version) == ("digits full", "digits-full-s0-0123456789")
    assert logger.save_dir == logger.log_dir == str(tmp_path)
    logger.resume(None)
    logger.log_hyperparams({"a": 1})
    for step in range(2):
        logger.log_metrics({"loss": 1.0}, step=step)
        logger.finalize("success")
    made = []
    for view in (
        Pictures([np.zeros((4, 4, 3), np.uint8)], ["x"]),
        Matrix(["a", "b"], [[1, 0], [0, 1]]),
        Lines(["x"], [[1], ["two"]]),
    ):
        logger.log_view(type(view).__name__, lambda view=view: made.append(view) or view)
    assert len(made) == (0 if kind == "csv" else 3)  # what cannot be shown is not made
    logger.log_summary({"test/accuracy": 0.5})
    logger.finish("finished")
