"""SIGTERM and Ctrl-C stop a run after the current step, so that its state can be saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class StopRequest:
    """Within: the first SIGTERM or SIGINT sets `asked`; a second SIGINT interrupts at once. Ignored signals stay ignored.

    Only the main thread gets signals; in other threads this does nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _stop(self, number: int, _: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
