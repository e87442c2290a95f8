"""The event stream: who sees what, and what happens to those who do not read."""

from openbits.service.events import QUEUE_LIMIT, EventStream, Subscriber


def test_a_subscriber_sees_its_own_jobs_and_those_it_asked_for() -> None:
    own = Subscriber(1000, sees_all=False, job_ids=None)
    one = Subscriber(1000, sees_all=False, job_ids=frozenset({"a"}))
    every = Subscriber(0, sees_all=True, job_ids=None)
    assert [s.wants(1000, "b") for s in (own, one, every)] == [True, False, True]
    assert [s.wants(1001, "a") for s in (own, one, every)] == [False, False, True]


def test_numbers_go_on_from_the_last_stored_one_without_a_gap() -> None:
    stream = EventStream(41, lambda _: None)
    assert [stream.next_seq(), stream.next_seq()] == [42, 43]


def test_a_subscriber_that_does_not_read_gets_one_overflow_instead() -> None:
    slow = Subscriber(1000, sees_all=False, job_ids=None)
    for seq in range(QUEUE_LIMIT + 1):
        slow.put({"seq": seq, "at": 0.0, "kind": "state", "job_id": "a"})
    assert slow.queue.qsize() == 1
    assert slow.queue.get_nowait() == {"seq": QUEUE_LIMIT, "at": 0.0, "kind": "overflow", "job_id": ""}


def test_a_dropped_subscriber_is_reported_once() -> None:
    gone: list[str] = []
    stream = EventStream(0, gone.append)
    subscriber = Subscriber(1000, sees_all=False, job_ids=None)
    stream.add(subscriber)
    assert stream.find(subscriber.subscriber_id) is subscriber
    stream.drop(subscriber)
    stream.drop(subscriber)
    assert gone == [subscriber.subscriber_id]
    assert stream.find(subscriber.subscriber_id) is None


def test_an_overflow_keeps_the_notices_because_they_are_sent_once() -> None:
    slow = Subscriber(1000, sees_all=False, job_ids=None)
    slow.put({"seq": 0, "at": 0.0, "kind": "notice", "job_id": "a", "notice": "transferred", "notice_seq": 1})
    for seq in range(1, QUEUE_LIMIT + 1):
        slow.put({"seq": seq, "at": 0.0, "kind": "state", "job_id": "a"})
    kinds = [event["kind"] for event in (slow.queue.get_nowait(), slow.queue.get_nowait()) if event is not None]
    assert kinds == ["notice", "overflow"]
    assert slow.queue.empty()
