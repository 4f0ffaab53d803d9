"""Weights & Biases: shows a run, and never ends one."""

import logging
import netrc
import os
import struct
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, final

from pytorch_lightning.utilities import rank_zero_only

from tlx.base.secrecy import masked, masked_text
from tlx.base.shown import Lines, Making, Pictures, Shown
from tlx.training.logs.run_logger import RunInfo, RunLogger

if TYPE_CHECKING:
    import wandb

logger = logging.getLogger(__name__)

FINISH_TIMEOUT_S = 60.0
FILE_TIMEOUT_S = 30.0
FILE_BLOCK = 32768
Mode = Literal["online", "offline", "disabled"]
CONFUSION_CHART = "wandb/confusion_matrix/v1"


@final
class WandbLogger(RunLogger):
    """One W&B run under the run's own id; a restart goes on with it.

    Figures are keyed by our own `step`, since W&B drops what comes out of its order, and an
    offline restart begins anew at 0. Neither command line, code, git, console nor host is logged.
    """

    def __init__(
        self, run: RunInfo, *, project: str, mode: str, entity: str | None, init_timeout_s: float
    ) -> None:
        """Keeps the options; W&B starts with what is logged first."""
        super().__init__(run)
        self._project, self._entity = project, entity
        self._mode = mode
        self._init_timeout_s = init_timeout_s
        self._wandb_run: wandb.Run | None = None
        self._started = False
        self._warned: set[str] = set()

    @property
    def experiment(self) -> "wandb.Run | None":
        """The W&B run, started where it is not; None on other ranks, disabled or after failure."""
        self._start()
        return self._wandb_run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Sends figures with their global step."""
        self._log(dict(metrics), step)

    @rank_zero_only
    def log_view(self, key: str, make: Making, *, step: int | None = None) -> None:
        """Shows pictures, a matrix as W&B's own chart, tables as they are."""
        with self._harmless("log_view"):
            if self.experiment is not None and (shown := make()) is not None:
                self._log({key: _charted(key, shown)}, step)

    @rank_zero_only
    def log_summary(self, figures: Mapping[str, object]) -> None:
        """Keeps final figures in the run's summary."""
        with self._harmless("log_summary"):
            if (run := self.experiment) is not None:
                run.summary.update(dict(figures))

    @rank_zero_only
    def finish(self, status: str) -> None:
        """Ends the W&B run, its file complete; one that did not finish shows as failed."""
        with self._harmless("finish"):
            if self._wandb_run is not None:
                self._wandb_run.finish(exit_code=0 if status == "finished" else 1)
                if self._wandb_run.offline:
                    _await_file(Path(self._wandb_run.settings.sync_file), FILE_TIMEOUT_S)
        self._wandb_run, self._started = None, True

    def _log(self, figures: dict[str, object], step: int | None) -> None:
        with self._harmless("log"):
            if (run := self.experiment) is not None:
                at = {} if step is None else {"step": step}
                run.log({**figures, **at})

    @rank_zero_only
    def _start(self) -> None:
        if self._started:
            return
        self._started = True
        with self._harmless("init"):
            import wandb

            begun = time.monotonic()
            mode = _mode(self._mode, wandb.setup().settings, timeout_s=self._init_timeout_s)
            if mode == "disabled":
                return
            # A server that answers the probe and then falls silent: what is left of the time.
            left_s = max(1.0, self._init_timeout_s - (time.monotonic() - begun))
            try:
                self._wandb_run = self._init(mode, left_s)
            except wandb.Error as error:
                if mode == "offline":
                    raise
                logger.warning(
                    "W&B cannot be used online (%s): this run is logged offline",
                    masked_text(str(error)),
                )
                wandb.teardown()  # W&B's service still holds the run's id
                self._wandb_run = self._init("offline", left_s)
            self._wandb_run.define_metric("step", hidden=True)
            self._wandb_run.define_metric("*", step_metric="step")

    def _init(self, mode: Mode, timeout_s: float) -> "wandb.Run":
        import wandb

        Path(self.run.dir).mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(
            init_timeout=timeout_s,
            finish_timeout=FINISH_TIMEOUT_S,
            console="off",
            save_code=False,
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            host="",
            program="tlx",
            label_disable=True,
            quiet=True,
            silent=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
        )
        # an agent of a W&B Sweep has named the run already, by the environment
        named = os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None
        return wandb.init(
            project=self._project,
            entity=self._entity,
            id=named or self.run.id,
            resume="allow" if mode == "online" and named is None else None,
            name=self.run.name,
            group=self.run.group,
            job_type=self.run.job_type,
            tags=list(self.run.tags),
            config=masked({name: _text_keys(part) for name, part in self.run.config.items()}),
            dir=str(self.run.dir),
            mode=mode,
            reinit="create_new",
            settings=settings,
        )

    @contextmanager
    def _harmless(self, what: str) -> Iterator[None]:
        """Turns whatever goes wrong in W&B into one warning a kind: it must never end a run."""
        try:
            yield
        except Exception as error:  # the whole point, hence so broad
            if what not in self._warned:
                self._warned.add(what)
                text = masked_text(str(error))
                logger.warning("W&B %s failed: %s: %s", what, type(error).__name__, text)


def _charted(key: str, shown: Shown) -> object:
    """As W&B shows it."""
    import wandb

    if isinstance(shown, Pictures):
        captioned = zip(shown.images, shown.captions, strict=True)
        return [wandb.Image(image, caption=text) for image, text in captioned]
    if isinstance(shown, Lines):
        rows = [list(row) for row in shown.rows]
        return wandb.Table(columns=[*shown.columns], data=rows, allow_mixed_types=True)
    columns: list[str | int] = ["Actual", "Predicted", "nPredictions"]
    cells = [
        [true, predicted, int(count)]
        for true, row in zip(shown.names, shown.counts, strict=True)
        for predicted, count in zip(shown.names, row, strict=True)
    ]
    return wandb.plot_table(
        vega_spec_name=CONFUSION_CHART,
        data_table=wandb.Table(columns=columns, data=cells),
        fields={str(name): str(name) for name in columns},
        string_fields={"title": key},
    )


def _text_keys(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(name): _text_keys(item) for name, item in value.items()}
    return [_text_keys(item) for item in value] if isinstance(value, list | tuple) else value


def _await_file(path: Path, timeout_s: float) -> None:
    """Waits until an offline run's file is complete.

    W&B's own `finish` only asks its service to close the file and does not wait; until then up to
    15 s of records (the whole of a short run) are in the service's memory and die with it.
    """
    end = time.monotonic() + timeout_s
    while not _has_exit(path):
        if time.monotonic() > end:
            raise TimeoutError(f"{path} is not complete after {timeout_s:.0f} s")
        time.sleep(0.02)


def _has_exit(path: Path) -> bool:
    """Whether a W&B file holds its exit record, which comes after all that was logged.

    The file is a LevelDB log; its last two blocks of 32 KiB are looked at.
    """
    from wandb.proto import wandb_internal_pb2

    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size // FILE_BLOCK - 1) * FILE_BLOCK
        file.seek(start)
        data = file.read()
    at = 0 if start else 7  # the file's own header
    parts: bytes | None = None  # of a record whose begin was seen
    while at + 7 <= len(data):
        left = FILE_BLOCK - at % FILE_BLOCK
        if left < 7:  # too little for a header: zeros
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        part = data[at + 7 : at + 7 + length]
        if len(part) < length:
            return False  # still being written
        at += 7 + length
        if kind in (1, 2):  # full, first
            parts = part
        elif parts is not None:  # middle, last
            parts += part
        if kind in (1, 4) and parts is not None:
            record = cast(Any, wandb_internal_pb2).Record()  # generated, untyped
            record.ParseFromString(parts)
            if record.WhichOneof("record_type") == "exit":
                return True
            parts = None
    return False


def _mode(wanted: str, settings: "wandb.Settings", *, timeout_s: float) -> Mode:
    """`online`, `offline` or `disabled`: what can be had of what is wanted."""
    if wanted == "auto":
        wanted = os.environ.get("WANDB_MODE", settings.mode)
        if wanted not in ("offline", "disabled"):
            wanted = "online" if _logged_in(settings) else "offline"
    if wanted == "online" and not _answers(settings.base_url, timeout_s=timeout_s):
        logger.warning(
            "W&B server %s gave no answer within %.0f s: this run is logged offline; "
            "`wandb sync` sends it later",
            masked_text(settings.base_url),
            timeout_s,
        )
        return "offline"
    return cast(Mode, wanted)


def _logged_in(settings: "wandb.Settings") -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    if settings.api_key or settings.identity_token_file:
        return True
    host = urllib.parse.urlsplit(settings.base_url).hostname or ""
    paths = [Path.home() / ".netrc", Path.home() / "_netrc"]
    if "NETRC" in os.environ:
        paths = [Path(os.environ["NETRC"])]
    for path in paths:
        try:
            if netrc.netrc(str(path)).hosts.get(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _answers(base_url: str, *, timeout_s: float) -> bool:
    """Whether the server answers anything at all in time; in a thread, since DNS has no limit."""
    answered = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(
            f"{base_url.rstrip('/')}/graphql",
            data=b'{"query": "{ __typename }"}',
            headers={"Content-Type": "application/json", "User-Agent": "tlx"},
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout_s):
                answered.set()
        except urllib.error.HTTPError:
            answered.set()  # refused, hence there
        except (OSError, ValueError) as error:
            if "CERTIFICATE" in str(error):
                answered.set()  # there; W&B may know its authority
        finally:
            done.set()

    done = threading.Event()
    threading.Thread(target=ask, daemon=True, name="wandb-probe").start()
    done.wait(timeout_s)
    return answered.is_set()
