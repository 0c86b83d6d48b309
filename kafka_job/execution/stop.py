"""What asks a run to stop: a signal, or whoever has started it, as a test or a notebook does."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from kafka_job.flink.gateway import SIGNALS

from pyflink.common import JobClient


class Stop:
    """Asks a run to stop in good order, as Ctrl-C does."""

    def __init__(self) -> None:
        # No threading.Event: a signal in the middle of the main thread's wait would let it wait for itself, for ever.
        self.requested = False
        self.running: JobClient | None = None  # the job, as soon as it runs
        self.last_words = ""  # what to say where a second signal ends the program

    def request(self) -> None:
        """Ask for the stop, from another thread."""
        self.requested = True

    def wait(self, seconds: float) -> bool:
        """Sleep; whether a stop is requested."""
        time.sleep(seconds)
        return self.requested

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Let the first of SIGNALS ask for the stop of the `with` block; the second ends the program, exit code 130."""
        if threading.current_thread() is not threading.main_thread():  # where Python lets nobody handle signals
            yield
            return
        handlers = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            # Not print: it may have been interrupted by this very signal.
            with contextlib.suppress(OSError):
                os.write(2, self.last_words.encode())
            os._exit(130)
        self.requested = True
