"""Stop requests: a signal sets a flag, training looks at it between steps."""

import signal
import threading
from types import FrameType

import torch
import torch.distributed as dist


class Interrupted(Exception):
    """Training stopped at a step boundary, after a checkpoint, because it was asked to."""


class Pruned(Exception):
    """Training stopped after a validation, and a checkpoint, because its search gave it up."""


class StopFlag:
    """Catches SIGTERM, SIGINT and SIGUSR2; a second SIGINT stops at once.

    Nothing is saved inside a handler: that hangs or corrupts (PITFALLS 22).
    """

    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)

    def __init__(self) -> None:
        """Starts unset, and remembers who handles the signals now."""
        self.received: int | None = None
        self._before = {number: signal.getsignal(number) for number in self.signals}

    def install(self) -> None:
        """Takes over the signals, from Lightning too, whose handlers communicate.

        Outside the main thread, where Python allows no handlers, it does nothing.
        """
        if threading.current_thread() is threading.main_thread():
            for number in self.signals:
                signal.signal(number, self._handle)

    def restore(self) -> None:
        """Gives the signals back to who had them."""
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number

    def agreed(self, device: torch.device) -> bool:
        """Whether any rank received a signal; all ranks must ask at the same step."""
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            flag = torch.tensor([float(self.received is not None)], device=device)
            dist.all_reduce(flag)
            return bool(flag.item() > 0)
        return self.received is not None
