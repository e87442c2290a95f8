"""T-10 in small: hostile local users race the path recipe, and no file ends in the wrong place (identity.md §12).

The attacker owns the destination directory or one above it and swaps it in a loop, by RENAME_EXCHANGE, with a symlink
to a private directory of the victim, where the victim's own rights would let it create, replace and remove files.
The sysctl that hampers such links is off. A naive open by path shows that the attack works.
"""

import contextlib
import ctypes
import errno
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import attacks

from openbits.identity import paths
from openbits.identity.filecalls import Opener
from openbits.identity.path_errors import PathError
from openbits.identity.paths import Directory, Publication, Temporary

pytestmark = pytest.mark.root

Record = Callable[[str, object], None]
RunAs = Callable[[int | None, Callable[[], Any]], Any]
RunningAs = Callable[[int, Callable[[], None]], contextlib.AbstractContextManager[None]]

VICTIM, ATTACKER = 61_001, 61_002
NAME = b".BIT0123abcd.tmp"
RACE_SECONDS, LONGEST_RACE_SECONDS = 0.5, 120.0
RENAME_EXCHANGE = 2
PROTECTED = [Path(f"/proc/sys/fs/protected_{name}") for name in ("symlinks", "hardlinks", "regular", "fifos")]


@pytest.fixture(autouse=True, params=["0", "1"], ids=["unprotected", "protected"])
def _protection(request: pytest.FixtureRequest) -> Iterator[None]:
    """Without and with the kernel's own brakes on links and special files in sticky directories."""
    before = {path: path.read_text(encoding="ascii") for path in PROTECTED}
    for path in PROTECTED:
        path.write_text(request.param, encoding="ascii")
    yield
    for path, value in before.items():
        path.write_text(value, encoding="ascii")


@pytest.fixture
def private(open_tmp_path: Path) -> Path:
    """The victim's private directory with files that nobody meant."""
    place = open_tmp_path / "private"
    (place / "in").mkdir(parents=True)
    for name in ("file", "in/file"):
        (place / name).write_bytes(b"precious")
    for each in (place, *place.rglob("*")):
        os.chown(each, VICTIM, VICTIM)
        each.chmod(0o700 if each.is_dir() else 0o600)
    return place


@pytest.fixture
def hostile(open_tmp_path: Path) -> Path:
    """A directory of the attacker with `drop`, where everybody may create files, and `drop/in` of the same kind."""
    place = open_tmp_path / "hostile"
    (place / "drop" / "in").mkdir(parents=True)
    for each in (place, place / "drop", place / "drop" / "in"):
        os.chown(each, ATTACKER, ATTACKER)
        each.chmod(0o777)
    return place


def exchange(first: Path, second: Path) -> Callable[[], None]:
    """Swap two names for ever, as fast as the kernel can."""
    renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    names = bytes(first), bytes(second)

    def loop() -> None:
        while True:
            renameat2(-100, names[0], -100, names[1], RENAME_EXCHANGE)

    return loop


def snapshot(place: Path) -> dict[str, tuple[int, int, int, int, bytes]]:
    """Everything about the files below a directory that the victim's broker might have changed."""
    found = {}
    for each in sorted(place.rglob("*")):
        status = each.lstat()
        content = each.read_bytes() if each.is_file() else b""
        found[str(each)] = (status.st_ino, status.st_mode, status.st_mtime_ns, status.st_nlink, content)
    return found


def fixed(place: Path) -> Directory:
    """The directory as AddFile fixed it before the attack began."""
    found = place.stat()
    return Directory(path=bytes(place), dev=found.st_dev, ino=found.st_ino)


def made(directory: Directory, opener: Opener) -> dict[str, int]:
    """What proves the identity of a temporary file NAME that is made now."""
    temporary, descriptor = paths.create(directory, NAME, opener)
    os.close(descriptor)
    return {"ino": temporary.ino, "dev": temporary.dev, "birth_ns": temporary.birth_ns, "uid": temporary.uid}


def publish(directory: Directory, temporary: Temporary, opener: Opener) -> None:
    """Under a name that exists in the private directory too."""
    file = Publication(temporary=temporary, name=b"file", umask=0, modified_ns=0)
    assert paths.publish(directory, [file], opener) == 1


def raced(acts: Callable[[Counter[str]], None], *wanted: str) -> Callable[[], Counter[str]]:
    """Repeat the acts until all the wanted has been seen, and for RACE_SECONDS, in the campaign ROUNDS times.

    Returns how often each act succeeded and each refusal came.
    """

    def is_over(seen: Counter[str], spent_seconds: float) -> bool:
        if spent_seconds > LONGEST_RACE_SECONDS:
            return True
        is_enough = sum(seen.values()) >= attacks.ROUNDS if attacks.ROUNDS else spent_seconds > RACE_SECONDS
        return is_enough and all(seen[each] for each in wanted)

    def loop() -> Counter[str]:
        seen: Counter[str] = Counter()
        began_at = time.monotonic()
        while not is_over(seen, time.monotonic() - began_at):
            acts(seen)
        return seen

    return loop


def tried(seen: Counter[str], name: str, act: Callable[[], Any]) -> Any:
    """The result of the act, None if it was refused; counted either way."""
    try:
        result = act()
    except PathError as error:
        seen[f"{name} refused: {error.step}"] += 1
        return None
    seen[name] += 1
    return result if result is not None else True


def until_done(seen: Counter[str], name: str, act: Callable[[], Any]) -> Any:
    """Try again and again: the attacker swaps the directory back all the time."""
    while (result := tried(seen, name, act)) is None:
        pass
    return result


@pytest.mark.attack(1)
@pytest.mark.parametrize("inner", ["", "in"], ids=["the directory itself", "the directory above"])
def test_no_file_is_created_published_or_removed_in_the_wrong_directory(
    inner: str,
    hostile: Path,
    private: Path,
    opener: Opener,
    run_as: RunAs,
    running_as: RunningAs,
    record_property: Record,
) -> None:
    place = hostile / "drop" / inner
    directory = fixed(place)
    (hostile / "link").symlink_to(private)
    decoys = {}

    def acts(seen: Counter[str]) -> None:
        name = b".BIT%08x.tmp" % sum(seen.values())
        created = tried(seen, "create", lambda: paths.create(directory, name, opener))
        if created is None:
            return
        temporary, descriptor = created
        os.write(descriptor, b"transferred")
        os.close(descriptor)
        if seen["create"] % 2:
            until_done(seen, "publish", lambda: publish(directory, temporary, opener))
        else:
            until_done(seen, "remove", lambda: paths.remove(directory, temporary, opener))

    for number in range(200):  # where a misled removal would find its name
        decoy = private / inner / f".BIT{number:08x}.tmp"
        decoy.write_bytes(b"")
        os.chown(decoy, VICTIM, VICTIM)
        decoys[decoy] = decoy.stat().st_ino
    before = snapshot(private)
    wanted = [f"{act}{end}" for act in ("create", "publish", "remove") for end in ("", " refused: moved")]
    with running_as(ATTACKER, exchange(hostile / "drop", hostile / "link")):
        seen = run_as(VICTIM, raced(acts, *wanted))
    record_property("tries", sum(seen.values()))
    assert snapshot(private) == before
    assert all(seen[each] for each in wanted), seen
    real = next(each for each in (hostile / "drop", hostile / "link") if not each.is_symlink()) / inner
    assert (real / "file").read_bytes() == b"transferred"
    assert list(real.glob("*.tmp")) == []


def test_the_same_attack_misleads_an_open_by_path(
    hostile: Path, private: Path, run_as: RunAs, running_as: RunningAs
) -> None:
    """The control: O_CREAT|O_EXCL|O_NOFOLLOW on the whole path is not enough."""
    (hostile / "link").symlink_to(private)

    def naive() -> int:
        deadline = time.monotonic() + 10 * RACE_SECONDS
        for number in range(10**9):
            name = f"misplaced-{number}"
            with contextlib.suppress(OSError):
                flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY
                os.close(os.open(hostile / "drop" / name, flags, 0o600))
            if (private / name).exists() or time.monotonic() > deadline:
                break
        return len(list(private.glob("misplaced-*")))

    with running_as(ATTACKER, exchange(hostile / "drop", hostile / "link")):
        assert run_as(VICTIM, naive) > 0


@pytest.mark.attack(2)
@pytest.mark.parametrize("impostor", ["symlink", "fifo", "file"])
def test_a_temporary_file_that_is_swapped_all_the_time_never_leads_to_another(
    impostor: str,
    hostile: Path,
    private: Path,
    opener: Opener,
    run_as: RunAs,
    running_as: RunningAs,
    record_property: Record,
) -> None:
    """The attacker may rename the victim's files there: what is reopened, changed and removed is the victim's own."""
    place = hostile / "drop"
    directory = fixed(place)
    swapped = place / "swapped"
    if impostor == "symlink":
        swapped.symlink_to(private / "file")
    elif impostor == "fifo":
        os.mkfifo(swapped, 0o666)
    else:
        swapped.write_bytes(b"of the attacker")
    os.chown(swapped, ATTACKER, ATTACKER, follow_symlinks=False)
    foreign = swapped.lstat()

    temporary = Temporary(name=NAME, **run_as(VICTIM, lambda: made(directory, opener)))

    def acts(seen: Counter[str]) -> None:
        reopened = tried(seen, "reopen", lambda: paths.reopen(directory, temporary, opener))
        if reopened is not None:
            assert os.fstat(reopened[1]).st_ino == temporary.ino
            os.close(reopened[1])

    before = snapshot(private)
    with running_as(ATTACKER, exchange(place / os.fsdecode(NAME), swapped)):
        seen = run_as(VICTIM, raced(acts, "reopen", "reopen refused: changed"))
        run_as(VICTIM, lambda: until_done(Counter(), "publish", lambda: publish(directory, temporary, opener)))
    record_property("tries", sum(seen.values()))
    assert seen["reopen"] > 0
    assert seen["reopen refused: changed"] > 0
    assert snapshot(private) == before
    left = [each.lstat() for each in place.iterdir()]
    assert foreign.st_ino in {each.st_ino for each in left}
    unchanged = next(each for each in left if each.st_ino == foreign.st_ino)
    assert (unchanged.st_mode, unchanged.st_mtime_ns) == (foreign.st_mode, foreign.st_mtime_ns)


@pytest.mark.attack(2)
def test_the_inode_of_a_removed_temporary_given_to_another_file_does_not_fool(
    hostile: Path, opener: Opener, run_as: RunAs
) -> None:
    """P4: ext4 gives the inode out again at once; the birth time still differs."""
    directory = fixed(hostile / "drop")

    temporary = Temporary(name=NAME, **run_as(VICTIM, lambda: made(directory, opener)))

    def replace() -> None:
        planted = hostile / "drop" / os.fsdecode(NAME)
        planted.unlink()
        planted.write_bytes(b"planted by a process of the same identity")

    run_as(VICTIM, replace)
    for act in (
        lambda: paths.reopen(directory, temporary, opener),
        lambda: publish(directory, temporary, opener),
        lambda: paths.remove(directory, temporary, opener),
    ):

        def step(act: Callable[[], object] = act) -> list[object]:
            with pytest.raises(PathError) as caught:
                act()
            return [caught.value.errno, caught.value.step]

        assert run_as(VICTIM, step) == [errno.EACCES, "changed"]
    assert (hostile / "drop" / os.fsdecode(NAME)).read_bytes() == b"planted by a process of the same identity"
