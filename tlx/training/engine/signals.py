"""Stop requests in training: a signal sets a flag, training looks at it between steps."""

import pytorch_lightning as pl
import torch
import torch.distributed as dist

from tlx.base import interrupts
from tlx.base.interrupts import REQUESTS


class StopFlag:
    """Has requests to stop wait for a step's boundary; a second Ctrl-C does not wait."""

    def __init__(self) -> None:
        """Changes nothing yet."""
        self._installed = False
        self._before: interrupts.Mode | None = None
        self._handlers = interrupts.handlers()

    @property
    def received(self) -> int | None:
        """The first signal that came."""
        return REQUESTS.received

    def install(self) -> None:
        """Has requests wait from now on (a mutator of the process)."""
        # to be given back to who had them before Lightning, which is where this is called from
        self._installed = REQUESTS.install(before=self._handlers) or self._installed
        if self._before is None:
            self._before = REQUESTS.mode
        if REQUESTS.mode != "hold":
            REQUESTS.mode = "flag"
        REQUESTS.claim()

    def restore(self) -> None:
        """Has requests end at once again what is at work (a mutator of the process)."""
        if self._before is not None and REQUESTS.mode == "flag":
            REQUESTS.mode = self._before
        self._before = None
        if self._installed:
            REQUESTS.restore()
            self._installed = False

    def agreed(self, device: torch.device) -> bool:
        """Whether any rank received a signal; all ranks must ask at the same step."""
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            flag = torch.tensor([float(self.received is not None)], device=device)
            dist.all_reduce(flag)
            return bool(flag.item() > 0)
        return self.received is not None


class OwnSignals(pl.Callback):
    """Takes the signals back from Lightning, whose handler of SIGTERM talks to other ranks."""

    def on_validation_start(self, *_: object) -> None:
        """Lightning has just set its own."""
        REQUESTS.claim()

    def on_train_start(self, *_: object) -> None:
        """Lightning has just set its own."""
        REQUESTS.claim()
