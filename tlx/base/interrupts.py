"""Requests to stop: what a signal does to this process, whatever it is at.

One handler for all of them, in one of four modes:

- `leave`: nothing is at work, modules are being imported, say: the process ends at once;
- `raise`: `Stopped` ends what is at work, which has its end recorded;
- `flag`: training looks at it between steps, and saves; another Ctrl-C raises all the same;
- `hold`: an end is on its way and must be recorded: signals are only noted.

The handler itself goes over to `hold` as it raises, so that no further signal can come between an
exception and the record of it. Nothing is saved inside a handler: that hangs or corrupts.

`Stopped` may be raised where it cannot get through: a finalizer loses it, and has it raised once
more; a C extension that is being imported makes an error of its own of it, which is recognised.
"""

import atexit
import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Literal, NoReturn, final

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""All mean the same; batch systems send SIGUSR1 or SIGUSR2 before a job's time is over."""

STATUS = 130
"""Exit status of a command that was asked to stop, whatever the signal."""

SAME_S = 0.25
"""Ctrl-C reaches a process twice where the terminal and a launcher both send it."""

LOST_S = 5.0
"""So long after `Stopped` was raised nothing has come of it, if another signal finds no record."""

LATER_S = 0.05
"""When it is raised once more that a finalizer lost: after that finalizer."""

Mode = Literal["leave", "raise", "flag", "hold"]
Handler = Callable[[int, FrameType | None], object] | int | None


class Stopped(BaseException):
    """A signal ended what was at work, at once.

    No KeyboardInterrupt, for which Lightning ends the process with status 1, and no Exception,
    which libraries catch.
    """

    def __init__(self, number: int) -> None:
        """Names the signal."""
        super().__init__(f"stopped at once by {signal.Signals(number).name}")


@final
class Requests:
    """The requests to stop that this process has received, and how it takes them.

    Attributes:
        received: the first of them, and None before.
        mode: what the next does.
        raised: `Stopped` was raised, and whoever has to has not yet heard of it.
    """

    def __init__(self) -> None:
        """Takes no signal yet."""
        self.received: int | None = None
        self.mode: Mode = "leave"
        self.raised = False
        self._raised_at = 0.0
        self._unraisable = sys.unraisablehook
        self.installed = False
        self._at = 0.0
        self._status = STATUS
        self._before: dict[int, Handler] = {}
        self._terminals: list[int] = []

    def install(self, *, status: int = STATUS, before: Mapping[int, Handler] | None = None) -> bool:
        """Takes over the signals; True where that was not done before (a mutator of the process).

        A signal that is ignored stays so: SIGHUP under nohup, SIGINT of a job in the background.
        Outside the main thread, where Python allows no handlers, it does nothing.

        Args:
            status: with which the process ends where nothing is at work.
            before: handlers to be restored; None: those that are there.
        """
        if self.installed or threading.current_thread() is not threading.main_thread():
            return False
        self.received, self.mode, self._status, self.raised = None, "leave", status, False
        self._unraisable, sys.unraisablehook = sys.unraisablehook, self._lost
        self._before = dict(handlers() if before is None else before)
        self._terminals = [number for number in (1, 2) if _is_terminal(number)]
        self.installed = True
        self.claim()
        atexit.register(self._be_deaf)
        return True

    def claim(self) -> None:
        """Takes the signals from who has taken them since, such as Lightning (a mutator)."""
        if not self.installed or threading.current_thread() is not threading.main_thread():
            return
        for number, before in self._before.items():
            if before is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def restore(self) -> None:
        """Gives the signals back to who had them (a mutator)."""
        if not self.installed or threading.current_thread() is not threading.main_thread():
            return
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        sys.unraisablehook = self._unraisable
        atexit.unregister(self._be_deaf)
        self.installed, self.received, self.mode, self.raised = False, None, "leave", False

    def heed(self) -> None:
        """Raises Stopped where a request came that nobody has heeded yet."""
        if self.received is not None and self.mode == "raise":
            self._raise(self.received)

    def _raise(self, number: int) -> NoReturn:
        self.mode, self.raised, self._raised_at = "hold", True, time.monotonic()
        raise Stopped(number)

    def turn_back(self, mode: Mode) -> None:
        """The mode from before, unless an end is on its way that concerns who is above as well."""
        if self.mode != "hold" or mode == "leave":
            self.mode = mode

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        again = self.received is not None and now - self._at > SAME_S
        if self.received is None:
            self.received, self._at = number, now
        if number == signal.SIGHUP:
            self.let_go_of_terminals()
        if self.mode == "leave":
            self._leave()
        at_once = number == signal.SIGINT and again and not _launched()
        lost = self.raised and now - self._raised_at > LOST_S
        if self.mode == "raise" or (self.mode == "flag" and at_once) or lost:
            self._raise(number)

    def _be_deaf(self) -> None:
        """Ignores signals from here on: Python resets its handlers first as it ends, for seconds.

        One more Ctrl-C would kill it then, and its status be another.
        """
        if self.installed and threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)

    def _lost(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Has raised again, a little later, what could not be raised in a finalizer, say."""
        if not isinstance(unraisable.exc_value, Stopped):
            self._unraisable(unraisable)
            return

        def again() -> None:
            if self.raised and self.received is not None:
                self._raised_at = -math.inf
                os.kill(os.getpid(), self.received)

        timer = threading.Timer(LATER_S, again)
        timer.daemon = True
        timer.start()

    def _leave(self) -> NoReturn:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            os.write(2, b"\nstopped\n")
        os._exit(self._status)

    def let_go_of_terminals(self) -> None:
        """Prints nowhere from now on: a terminal that is gone makes each print an error."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for number in self._terminals:
            os.dup2(nowhere, number)
        os.close(nowhere)
        self._terminals = []

    def after_fork(self) -> None:
        """A child notes signals only, but that which multiprocessing ends it with (a mutator)."""
        if self.installed:
            self.received, self.mode, self.raised = None, "hold", False
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def handlers() -> dict[int, Handler]:
    """What handles each of the signals now."""
    return {number: signal.getsignal(number) for number in SIGNALS}


REQUESTS = Requests()
"""Of this process."""

os.register_at_fork(after_in_child=REQUESTS.after_fork)


@contextlib.contextmanager
def at_work() -> Iterator[None]:
    """A request raises Stopped inside; how that ends is recorded before the process goes on."""
    installed, before = REQUESTS.install(), REQUESTS.mode
    REQUESTS.mode = "raise"
    try:
        with recognised():
            yield
    except Stopped as stop:
        if installed:  # whoever calls us as a library knows the word of Python
            raise KeyboardInterrupt(str(stop)) from stop
        raise
    finally:
        REQUESTS.turn_back(before)
        if installed:
            REQUESTS.restore()


@contextlib.contextmanager
def holding() -> Iterator[None]:
    """Nothing inside is cut off; it should be short. A request is heeded afterwards."""
    before = REQUESTS.mode
    REQUESTS.mode, REQUESTS.raised = "hold", False
    try:
        yield
    finally:
        REQUESTS.mode = before


@contextlib.contextmanager
def recognised() -> Iterator[None]:
    """Has an error that others made of Stopped be Stopped again."""
    try:
        yield
    except Exception as error:
        if not REQUESTS.raised or REQUESTS.received is None:
            raise
        raise Stopped(REQUESTS.received) from error


@contextlib.contextmanager
def given_up_on_request() -> Iterator[None]:
    """A request ends what is inside, and nothing else; for goodbyes that may take long."""
    before = REQUESTS.mode
    REQUESTS.mode = "raise"
    try:
        yield
    except Stopped:
        REQUESTS.raised = False
    finally:
        REQUESTS.mode = before


@final
class Asked:
    """What one is asked who passes requests on: to end in order first, then at once.

    Attributes:
        stopping: a request came.
        at_once: another Ctrl-C came after it.
    """

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self.stopping = self.at_once = False
        self._at = 0.0

    @contextlib.contextmanager
    def heard_by(self, tell: Callable[[], object]) -> Iterator[None]:
        """Calls `tell` at each request inside, once for each that says more than the last.

        One that came before and was held counts as if it came at once.
        """

        def hear(number: int, frame: FrameType | None) -> None:
            now = time.monotonic()
            if number == signal.SIGHUP:
                REQUESTS.let_go_of_terminals()
            if not self.stopping:
                self.stopping, self._at = True, now
                REQUESTS.received = REQUESTS.received or number
                tell()
            elif number == signal.SIGINT and now - self._at > SAME_S and not self.at_once:
                self.at_once = True
                tell()

        main = threading.current_thread() is threading.main_thread()  # Python's rule for handlers
        before = {number: signal.getsignal(number) for number in SIGNALS if main}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, hear)
        try:
            if REQUESTS.received is not None and REQUESTS.mode == "hold":
                hear(REQUESTS.received, None)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def obey_parent_only() -> None:
    """In a process that serves its parent: SIGTERM of others is not for it (a mutator).

    A signal to a whole group or job reaches such processes as well; were they to end, their parent
    could not save in peace.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        parent = os.getppid()
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            continue
        os._exit(0)

    threading.Thread(target=wait, daemon=True, name="sigterm").start()


def _launched() -> bool:
    """Whether a launcher started this rank, which passes Ctrl-C on once more, by itself."""
    return "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1


def _is_terminal(number: int) -> bool:
    try:
        return os.isatty(number)
    except OSError:
        return False
