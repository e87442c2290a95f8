"""The worker's one loop: descriptors, timers and calls posted by helper threads, in a single wait.

It is not an asynchronous framework: no tasks, no futures. Callbacks run one after the other in the thread that called
`run`; only `post` may be called from other threads. Nothing wakes the loop while nothing is due, so an idle worker
costs no CPU. Instants are seconds of the monotonic clock.
"""

import os
import queue
import selectors
import threading
import time
from collections.abc import Callable

Callback = Callable[[], None]


class Timer:
    """A call that is due at an instant; `cancel` may be called at any time."""

    __slots__ = ("_timers", "callback", "instant")

    def __init__(self, instant: float, callback: Callback, timers: "set[Timer]") -> None:
        self.instant = instant
        self.callback = callback
        self._timers = timers
        timers.add(self)

    def cancel(self) -> None:
        """The call will not be made."""
        self._timers.discard(self)


class Loop:
    """Waits for descriptors, timers and posted calls."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: set[Timer] = set()  # one per transport and the tick: too few to keep them in order
        self._soon: list[Callback] = []
        self._posted: queue.SimpleQueue[Callback] = queue.SimpleQueue()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._waking = threading.Lock()
        self._is_stopped = self._is_closed = False
        self.watch(self._wake, selectors.EVENT_READ, self._run_posted)

    @staticmethod
    def now() -> float:
        """The monotonic clock."""
        return time.monotonic()

    def watch(self, descriptor: int, events: int, callback: Callable[[int], None]) -> None:
        """Call back with the ready events (`selectors.EVENT_*`) of the descriptor; replaces an earlier watch."""
        if descriptor in self._selector.get_map():
            self._selector.modify(descriptor, events, callback)
        else:
            self._selector.register(descriptor, events, callback)

    def unwatch(self, descriptor: int) -> None:
        """Stop watching; a descriptor that is not watched is fine."""
        if descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)

    def call_at(self, instant: float, callback: Callback) -> Timer:
        """Call back at the instant, or as soon as the loop gets to it."""
        return Timer(instant, callback, self._timers)

    def soon(self, callback: Callback) -> None:
        """Call back when all that is ready now has been served, before the loop waits again."""
        self._soon.append(callback)

    def post(self, callback: Callback) -> None:
        """Have the loop make a call; the one method for other threads. After `close` nobody makes it."""
        self._posted.put(callback)
        with self._waking:
            if not self._is_closed:  # the descriptor may be somebody else's by now
                os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """Let `run` return after the present callback."""
        self._is_stopped = True

    def run(self) -> None:
        """Serve until `stop`."""
        while not self._is_stopped:
            self._run_soon()
            for key, events in self._selector.select(self._patience()):
                self._call(key, events)
            self._run_timers()

    def close(self) -> None:
        """Release the loop's own descriptors."""
        self._selector.close()
        with self._waking:
            self._is_closed = True
            os.close(self._wake)

    def _call(self, key: selectors.SelectorKey, events: int) -> None:
        """Call back, unless an earlier callback of this turn stopped the loop or dropped or replaced the watch."""
        if not self._is_stopped and self._selector.get_map().get(key.fd) is key:
            key.data(events)

    def _patience(self) -> float | None:
        """Seconds until the next timer, None if there is none."""
        if not self._timers:
            return None
        return max(0.0, min(timer.instant for timer in self._timers) - self.now())

    def _run_timers(self) -> None:
        now = self.now()
        due = [timer for timer in self._timers if timer.instant <= now]
        for timer in sorted(due, key=lambda timer: timer.instant):
            if timer in self._timers and not self._is_stopped:  # an earlier one may have cancelled it
                timer.cancel()
                timer.callback()

    def _run_soon(self) -> None:
        while self._soon:  # one may ask for another
            calls, self._soon = self._soon, []
            for callback in calls:
                callback()

    def _run_posted(self, _events: int) -> None:
        os.eventfd_read(self._wake)
        while not self._posted.empty():
            self._posted.get()()
