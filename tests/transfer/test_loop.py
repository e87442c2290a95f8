"""The worker's loop."""

import os
import selectors
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from openbits.transfer.loop import Loop

FAR = 3600.0


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    made.call_at(made.now() + 20, lambda: pytest.fail("the loop did not stop"))
    yield made
    made.close()


def test_timers_run_in_the_order_of_their_instants(loop: Loop) -> None:
    order: list[str] = []
    now = loop.now()
    loop.call_at(now + 0.02, loop.stop)
    loop.call_at(now + 0.01, lambda: order.append("second"))
    loop.call_at(now - 1, lambda: order.append("first"))
    loop.call_at(now + 0.015, lambda: order.append("never")).cancel()
    loop.run()
    assert order == ["first", "second"]


def test_what_is_wanted_soon_comes_after_all_that_is_ready_and_before_the_loop_waits(loop: Loop) -> None:
    order: list[str] = []
    pairs = [socket.socketpair() for _ in range(2)]

    def ready(_events: int) -> None:
        order.append("ready")
        loop.soon(lambda: order.append("soon"))

    for here, there in pairs:
        there.send(b"x")
        loop.watch(here.fileno(), selectors.EVENT_READ, ready)
    loop.soon(lambda: order.append("before anything"))
    loop.soon(lambda: loop.soon(lambda: order.append("asked for in there")))
    loop.call_at(loop.now(), lambda: loop.soon(loop.stop))
    loop.run()
    for pair in pairs:
        for end in pair:
            end.close()
    assert order[:2] == ["before anything", "asked for in there"]
    assert order[2:] == ["ready", "ready", "soon", "soon"]


def test_a_readable_descriptor_is_told_until_it_is_unwatched(loop: Loop) -> None:
    here, there = socket.socketpair()
    with here, there:
        seen: list[int] = []

        def ready(events: int) -> None:
            seen.append(events)
            if len(seen) == 2:
                loop.unwatch(here.fileno())
                loop.unwatch(here.fileno())  # twice is fine
                loop.call_at(loop.now() + 0.01, loop.stop)

        there.send(b"x")
        loop.watch(here.fileno(), selectors.EVENT_READ, ready)
        loop.run()
        assert seen == [selectors.EVENT_READ] * 2


def test_a_descriptor_dropped_by_an_earlier_callback_of_the_same_turn_is_not_told(loop: Loop) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    told: list[int] = []

    def ready(me: int, other: int) -> None:
        told.append(me)
        loop.unwatch(other)
        loop.unwatch(me)
        loop.stop()

    (first, one), (second, two) = pairs
    one.send(b"x")
    two.send(b"x")
    loop.watch(first.fileno(), selectors.EVENT_READ, lambda _: ready(first.fileno(), second.fileno()))
    loop.watch(second.fileno(), selectors.EVENT_READ, lambda _: ready(second.fileno(), first.fileno()))
    loop.run()
    assert len(told) == 1
    for pair in pairs:
        for end in pair:
            end.close()


def test_a_post_from_another_thread_wakes_the_loop(loop: Loop) -> None:
    threads: list[int] = []

    def posted() -> None:
        threads.append(threading.get_ident())
        loop.stop()

    thread = threading.Thread(target=lambda: loop.post(posted))
    loop.call_at(loop.now() + FAR, loop.stop)
    loop.call_at(loop.now(), thread.start)
    loop.run()
    thread.join()
    assert threads == [threading.get_ident()]


def test_closing_releases_the_descriptors() -> None:
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    Loop().close()
    assert len(list(descriptors.iterdir())) == before


def test_a_call_posted_after_the_end_touches_no_descriptor() -> None:
    loop = Loop()
    loop.close()
    reading, writing = os.pipe()  # may get the number of the closed descriptor
    try:
        loop.post(lambda: None)
        os.set_blocking(reading, False)
        with pytest.raises(BlockingIOError):
            os.read(reading, 8)
    finally:
        os.close(reading)
        os.close(writing)
