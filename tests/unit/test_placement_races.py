"""Whatever the placer does while the watcher looks, and wherever a kill cut it off, nothing that
this node has placed or removed is taken for a person's doing.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from placing_node import PlacingNode, exhaust

from pickbox.changes import Put
from pickbox.storage import placement
from pickbox.storage.catalog import Catalog
from pickbox.storage.state import StateDatabase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Story = Callable[["PlacingNode"], Iterator[None]]

PATH = b"d/p"
KILLED = 9


def replaced(node: PlacingNode) -> Iterator[None]:
    """A file is replaced, and the catalog is ahead of the folder for a while."""
    node.agree(PATH, b"second")
    yield
    pieces = node.placing()
    next(pieces)
    yield
    node.agree(PATH, b"the third")
    yield
    yield from pieces
    yield from node.placing()


def made_anew(node: PlacingNode) -> Iterator[None]:
    """A file is deleted and made anew, and changes again."""
    node.agree_on_nothing(PATH)
    yield
    yield from node.placing()
    node.agree(PATH, b"second")
    yield
    yield from node.placing()
    node.agree(PATH, b"the third")
    yield


def deleted_at_once(node: PlacingNode) -> Iterator[None]:
    """A file is replaced and deleted before its row is written."""
    node.agree(PATH, b"second")
    yield
    pieces = node.placing()
    next(pieces)
    next(pieces)
    yield
    node.agree_on_nothing(PATH)
    yield
    yield from pieces
    yield from node.placing()


def given_a_mode(node: PlacingNode) -> Iterator[None]:
    """A file gets other permissions, and then other content."""
    node.agree(PATH, b"first", 0o600)
    yield
    yield from node.placing()
    node.agree(PATH, b"second", 0o700)
    yield


def of_another_kind(node: PlacingNode) -> Iterator[None]:
    """A file becomes a directory, and that goes."""
    node.agree_on_nothing(PATH)
    node.agree(PATH, None, 0o750)
    yield
    yield from node.placing()
    node.agree_on_nothing(PATH)
    yield
    yield from node.placing()


STORIES = (replaced, made_anew, deleted_at_once, given_a_mode, of_another_kind)


@pytest.fixture(autouse=True)
def nothing_is_too_young(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the watcher read a file at once, as it does 20 ms later."""
    monkeypatch.setattr("pickbox.watcher.settle.TICK", 0)


@pytest.fixture
def volume() -> Iterator[Path]:
    """A directory in memory: thousands of databases are made in it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="pickbox-") as directory:
        yield Path(directory)


def a_node(directory: Path) -> PlacingNode:
    """A node that has the first version."""
    directory.mkdir()
    node = PlacingNode(directory)
    node.agree(b"d", None, 0o755)
    node.agree(PATH, b"first")
    exhaust(node.placing())
    return node


def assert_nobody_edited(node: PlacingNode, what: str) -> None:
    assert node.log.proposed == [], what
    assert node.on_disk() == node.in_catalog(), what


def test_a_file_made_anew_while_its_absence_is_looked_at_is_not_deleted(volume: Path) -> None:
    """The watcher finds nothing; the file is placed and booked; the watcher reads the new row."""
    for call in itertools.count(1):
        node = a_node(volume / str(call))
        node.agree_on_nothing(PATH)
        exhaust(node.placing())
        made = look_in_the_midst(node, made_and_placed(node), before=0, during=4, call=call)
        assert node.log.proposed == [], f"placed before call {call}"
        node.close()
        if not made:
            break


def made_and_placed(node: PlacingNode) -> Iterator[None]:
    node.agree(PATH, b"anew")
    yield
    yield from node.placing()


def test_what_a_kill_left_unbooked_is_no_edit_of_what_it_replaced(volume: Path) -> None:
    """The node starts again, and the next version is announced before the watcher has looked."""
    node = a_node(volume / "node")
    node.agree(PATH, b"second")
    forward(node.placing(), 2)
    assert (node.files / "d/p").read_bytes() == b"second"
    node.close()
    node = PlacingNode(volume / "node")
    node.agree(PATH, b"the third")
    exhaust(node.placing())
    node.scan()
    node.settle()
    assert_nobody_edited(node, "killed between a placement and its row")
    node.close()


def test_what_is_placed_while_an_edit_waits_for_its_answer_keeps_its_row(volume: Path) -> None:
    """A file is made, proposed and removed; another's is placed where it was, and booked."""
    node = a_node(volume / "node")
    (node.files / "d/q").write_bytes(b"mine")

    def remove_and_place_theirs() -> None:
        (node.files / "d/q").unlink()
        node.agree(b"d/q", b"theirs")
        exhaust(node.placing())

    node.log.before_the_answer = remove_and_place_theirs
    node.look(b"d/q")
    node.log.before_the_answer = lambda: None
    assert [change.path for change in node.log.proposed] == [b"d/q"]
    node.log.proposed.clear()
    node.agree(b"d/q", b"theirs again")
    node.settle()
    assert_nobody_edited(node, "the answer came after the placement")
    node.close()


@pytest.mark.parametrize("renamed", [True, False], ids=["renamed", "removed"])
def test_what_a_person_removed_before_its_answer_is_not_placed_again(
    volume: Path, renamed: bool
) -> None:
    """No leader was there to answer for a while, say; then the placer hears before the watcher."""
    node = a_node(volume / "node")
    (node.files / "d/q").write_bytes(b"mine")

    def remove() -> None:
        if renamed:
            (node.files / "d/q").rename(node.files / "d/r")
        else:
            (node.files / "d/q").unlink()
        exhaust(node.placing())

    node.log.before_the_answer = remove
    node.look(b"d/q")
    node.log.before_the_answer = lambda: None
    assert not (node.files / "d/q").exists()
    node.scan()
    node.settle()
    assert not (node.files / "d/q").exists()
    assert node.on_disk() == node.in_catalog()
    node.close()


def test_an_edit_that_placement_gives_back_is_one_of_the_version_it_was_made_on(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watcher looks while what is placed is in the folder for the moment of a swap."""
    node = a_node(volume / "node")
    first = node.catalog.get(PATH)
    rename, renames = placement._rename, itertools.count()

    def edit_and_look(*args: Any) -> None:
        match next(renames):
            case 0:
                (node.files / "d/p").write_bytes(b"edited")
            case 1:
                assert (node.files / "d/p").read_bytes() == b"second"
                node.look(PATH)
        rename(*args)

    monkeypatch.setattr(placement, "_rename", edit_and_look)
    node.agree(PATH, b"second")
    node.settle()
    [edit] = node.log.proposed
    assert first is not None
    assert isinstance(edit, Put)
    assert edit.base == first.version
    assert (node.files / "d/p").read_bytes() == b"second"
    assert b"edited" in [path.read_bytes() for path in (node.files / "d").glob("p.sync-conflict-*")]
    node.close()


def test_what_is_written_to_a_file_that_was_open_all_the_time_is_kept(volume: Path) -> None:
    """An application has it open since before a new version came, and writes after that."""
    node = a_node(volume / "node")
    node.agree(b"d/log", b"one\n")
    exhaust(node.placing())
    with (node.files / "d/log").open("ab", buffering=0) as application:
        node.agree(b"d/log", b"two\n")
        exhaust(node.placing())
        application.write(b"a line\n")
    node.look(b"d/log")
    node.settle()
    kept = [path.read_bytes() for path in (node.files / "d").glob("log.sync-conflict-*")]
    assert kept == [b"one\na line\n"]
    assert (node.files / "d/log").read_bytes() == b"two\n"
    assert node.on_disk() == node.in_catalog()
    node.close()


def look_in_the_midst(
    node: PlacingNode, pieces: Iterator[None], before: int, during: int, call: int
) -> bool:
    """Look after `before` pieces, and do `during` pieces before the watcher's `call`-th call.

    Returns:
        Whether it made so many calls.
    """
    forward(pieces, before)
    node.calls = 0
    node.interrupt = {call: lambda: forward(pieces, during)}
    node.look(PATH)
    made = not node.interrupt
    node.interrupt = {}
    return made


def forward(pieces: Iterator[None], count: int) -> None:
    exhaust(itertools.islice(pieces, count))


@pytest.mark.parametrize("story", STORIES)
def test_what_is_placed_during_a_look_is_no_edit(volume: Path, story: Story) -> None:
    """Any number of pieces before the look, any number in the midst of it, at any of its calls."""
    node = a_node(volume / "counted")
    count = sum(1 for _ in story(node))
    node.close()
    for before in range(count):
        for during in range(1, count - before + 1):
            for call in itertools.count(1):
                what = f"{before} before, {during} before call {call}"
                node = a_node(volume / what)
                pieces = story(node)
                made = look_in_the_midst(node, pieces, before, during, call)
                exhaust(pieces)
                node.settle()
                assert_nobody_edited(node, what)
                node.close()
                if not made:
                    break


MOVES_ON: dict[str, Callable[[PlacingNode], None]] = {
    "as it was": lambda node: None,
    "changed": lambda node: node.agree(PATH, b"at last"),
    "deleted": lambda node: node.agree_on_nothing(PATH),
}


@pytest.mark.parametrize("first", ["placer", "watcher"])
@pytest.mark.parametrize("moves_on", MOVES_ON)
@pytest.mark.parametrize("story", STORIES)
def test_what_was_placed_before_a_kill_is_no_edit(
    volume: Path, story: Story, moves_on: str, first: str
) -> None:
    """Killed before each change of the disk or of a database. Then the catalog is where it was or
    moves on, and placer or watcher is the first at the path."""
    for moment in itertools.count(1):
        directory = volume / str(moment)
        killed = live_until_killed(directory, story, moment)
        node = PlacingNode(directory)
        if killed:
            MOVES_ON[moves_on](node)
        node.scan()
        node.settle(watcher_first=first == "watcher")
        assert_nobody_edited(node, f"killed before change {moment}")
        node.close()
        if not killed:
            break


@pytest.mark.parametrize("story", STORIES)
def test_a_look_at_any_moment_of_a_placement_takes_nothing_for_an_edit(
    volume: Path, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watcher looks before each change of the disk or of a database."""
    for moment in itertools.count(1):
        node = a_node(volume / str(moment))
        with monkeypatch.context() as patch:
            looked = before_moment(moment, partial(node.look, PATH), patch)
            exhaust(story(node))
        node.settle()
        assert_nobody_edited(node, f"looked before change {moment}")
        node.close()
        if not looked:
            break


def live_until_killed(directory: Path, story: Story, moment: int) -> bool:
    """Live through `story` in a process that ends before its `moment`-th change, if it has one."""
    a_node(directory).close()
    child = os.fork()
    if child == 0:
        try:
            node = PlacingNode(directory)
            before_moment(moment, lambda: os._exit(KILLED), pytest.MonkeyPatch())
            exhaust(story(node))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED)
    return code == KILLED


def before_moment(moment: int, act: Callable[[], None], patch: pytest.MonkeyPatch) -> list[int]:
    """Have `act` called before the `moment`-th change of the disk or of a database.

    Returns:
        A list that is empty until then.
    """
    moments, reached = itertools.count(1), []

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not reached and next(moments) == moment:
                reached.append(moment)
                act()
            return function(*args, **kwargs)

        return call

    for holder, names in (
        (os, ("mkdir", "rmdir", "rename", "unlink", "utime", "chmod")),
        (placement, ("_rename",)),
        (StateDatabase, ("transaction",)),
        (Catalog, ("transaction",)),
    ):
        for name in names:
            patch.setattr(holder, name, watched(getattr(holder, name)))
    return reached
