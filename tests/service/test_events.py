"""The event stream: who sees what, and what happens to those who do not read."""

from openbits.service.events import QUEUE_LIMIT, EventStream, Subscriber


def test_a_subscriber_sees_its_own_jobs_and_those_it_asked_for() -> None:
    own = Subscriber(1000, sees_all=False, job_ids=None)
    one = Subscriber(1000, sees_all=False, job_ids=frozenset({"a"}))
    every = Subscriber(0, sees_all=True, job_ids=None)
    assert [s.wants(1000, "b") for s in (own, one, every)] == [True, False, True]
    assert [s.wants(1001, "a") for s in (own, one, every)] == [False, False, True]


def test_numbers_go_on_from_the_last_stored_one_without_a_gap() -> None:
    stream = EventStream(41)
    assert [stream.next_seq(), stream.next_seq()] == [42, 43]


def test_a_subscriber_that_does_not_read_gets_one_overflow_instead() -> None:
    slow = Subscriber(1000, sees_all=False, job_ids=None)
    for seq in range(QUEUE_LIMIT + 1):
        slow.put({"seq": seq, "at": 0.0, "kind": "state", "job_id": "a"})
    assert slow.queue.qsize() == 1
    assert slow.queue.get_nowait() == {"seq": QUEUE_LIMIT, "at": 0.0, "kind": "overflow", "job_id": ""}


def test_a_dropped_subscriber_is_not_found_any_more() -> None:
    stream = EventStream(0)
    subscriber = Subscriber(1000, sees_all=False, job_ids=None)
    stream.add(subscriber)
    assert stream.find(subscriber.subscriber_id) is subscriber
    stream.drop(subscriber)
    stream.drop(subscriber)
    assert stream.find(subscriber.subscriber_id) is None


def test_an_overflow_keeps_what_is_sent_once() -> None:
    """Modifications have no number and may be lost (N7)."""
    slow = Subscriber(1000, sees_all=False, job_ids=None)
    slow.put({"seq": 0, "at": 0.0, "kind": "notice", "job_id": "a", "notice": "transferred", "notice_seq": 1})
    slow.put({"seq": 0, "at": 0.0, "kind": "replaced", "job_id": "b", "registration": 1})
    slow.put({"seq": 0, "at": 0.0, "kind": "notice", "job_id": "a", "notice": "modification"})
    for seq in range(2, QUEUE_LIMIT):
        slow.put({"seq": seq, "at": 0.0, "kind": "state", "job_id": "a"})
    waiting = [slow.queue.get_nowait() for _ in range(slow.queue.qsize())]
    assert [event["kind"] for event in waiting if event is not None] == ["notice", "replaced", "overflow"]
    assert slow.queue.empty()
