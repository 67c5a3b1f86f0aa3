"""Signals that ask a training to stop: noted at once, obeyed between two steps."""

import signal
from collections.abc import Callable
from types import FrameType

# SIGTERM and SIGUSR1 are what a scheduler sends before it takes a node away, SIGHUP what a terminal
# sends that is closed, SIGINT is Ctrl-C.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT)


class Interrupted(Exception):
    """Raised between two steps after a signal; `signal` says which one."""

    def __init__(self, received: signal.Signals):
        super().__init__(received.name)
        self.signal = received


class StopRequest:
    """While entered, notes the stop signals; `check` raises Interrupted once there was one.

    SIGHUP that was ignored before, as under nohup, stays so. A second SIGINT ends the process as
    usual: a person does not want to wait for the step.
    """

    def __init__(self):
        self.received: signal.Signals | None = None

    def __enter__(self) -> "StopRequest":
        obeyed = set(STOP_SIGNALS)
        if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
            obeyed.remove(signal.SIGHUP)
        self.previous = {number: signal.signal(number, self._note) for number in obeyed}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)

    def check(self) -> None:
        """Raise Interrupted if a signal came since this was entered."""
        if self.received is not None:
            raise Interrupted(self.received)


def waiting(reason: str, stop: StopRequest | None = None) -> Callable[[], None]:
    """What to do while waiting for something: say so once, and obey a stop signal."""
    said = iter([f"waiting: {reason}"])

    def wait() -> None:
        for line in said:
            print(line, flush=True)
        if stop is not None:
            stop.check()

    return wait
