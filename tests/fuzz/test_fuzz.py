"""Everything that reads bytes of a network, with inputs that nobody would send: seconds here, longer by `make fuzz`."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.harness import HangError, play
from tests.fuzz.targets import CORPUS, TARGETS, Target


@st.composite
def spoiled(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A good input with some of it taken out, doubled, or replaced."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 20)))
        piece = draw(
            st.one_of(st.binary(max_size=12), st.just(data[start:end] * 2), st.sampled_from([b"\r\n", b"\0", b","]))
        )
        data = data[:start] + piece + data[end:]
    return data


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_input_breaks_it(name: str, data: st.DataObject) -> None:
    target = TARGETS[name]
    play(target, data.draw(st.one_of(spoiled(target.seeds), st.binary(max_size=300))))


@pytest.mark.parametrize("name", TARGETS)
def test_a_seed_is_taken_and_a_long_one_takes_no_time(name: str) -> None:
    for seed in TARGETS[name].seeds:
        play(TARGETS[name], seed)
        for filling in (b" ", b"a", b",", b'"', b"\\", b"\r\n", b"--", b"0", b"/.."):
            play(TARGETS[name], seed + filling * 20_000)
            play(TARGETS[name], filling * 20_000 + seed)


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_stays_mended(name: str) -> None:
    for path in (CORPUS / name).glob("*"):
        play(TARGETS[name], path.read_bytes())


def test_the_harness_sees_another_error_and_a_hang() -> None:
    with pytest.raises(ZeroDivisionError):
        play(Target(lambda data: len(data) / 0, ()), b"")

    def endless(_: bytes) -> None:
        while True:
            pass

    with pytest.raises(HangError):
        play(Target(endless, ()), b"")
