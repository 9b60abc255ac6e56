"""``pickbox doctor log``: what a node's disk holds, what is wrong with it, and the ways out."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from authority import NO_FILES, tls_settings
from cli_run import Ran, environment, pickbox_command

from pickbox.changes import Delete, Kind, Move, Put, Submission
from pickbox.codec import encode_command
from pickbox.consensus.configuration import Configuration, Participant
from pickbox.consensus.library import MEMBERSHIP, NO_OP, REGULAR
from pickbox.consensus.log import DurableLog, RealDisk
from pickbox.consensus.log.records import SegmentHeader
from pickbox.consensus.snapshot_store import SnapshotStore
from pickbox.levels import LEVEL

if TYPE_CHECKING:
    from pathlib import Path

MEMBERS = Configuration(
    4,
    "pickbox",
    {"node1": Participant("10.0.0.1:8001", b"i"), "node2": Participant("10.0.0.2:8001", b"j")},
    {"node3": Participant("10.0.0.3:8001")},
)
CHANGES = (
    Put(b"notes/a.txt", Kind.FILE, 2048, 0o644, 0, bytes(32)),
    Put(b"notes", Kind.DIRECTORY, 0, 0o755, 0, b""),
    Move(b"old \xff", b"new"),
    Delete(b"gone"),
    Delete(b"gone too", recursive=True),
)


def a_command(*changes: Any) -> bytes:
    return REGULAR + encode_command([Submission("id", "node2", 0, changes)])


def open_log(place: Path) -> DurableLog:
    return DurableLog.open(RealDisk(), str(place), segment_bytes=4096)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A node's data directory, as far as its log is concerned."""
    place = tmp_path / "data" / "raft" / "log"
    place.parent.mkdir(parents=True)
    log = open_log(place)
    log.set_hard_state(7, "node2/6a")
    log.add(MEMBERSHIP + MEMBERS.encode(), 1, 6)
    log.add(NO_OP, 2, 7)
    for index in range(3, 100):
        log.add(a_command(CHANGES[index % 5]), index, 7)
        log.sync()
    log.add(a_command(*CHANGES), 100, 7)
    log.add(REGULAR + b"\xee", 101, 7)
    log.add(MEMBERSHIP + MEMBERS.encode(), 102, 7)
    log.setRaftCommitIndex(99)
    log.sync()
    log.close()
    return tmp_path / "data"


def with_snapshot(data_dir: Path, index: int) -> Path:
    """Give the node a snapshot up to `index`; return the file with its data."""
    store = SnapshotStore(str(data_dir / "raft" / "snapshots"))
    part = data_dir / "part"
    part.write_bytes(b"the catalog" * 1000)
    store.install(str(part), store.describe(str(part), index, 7, index, MEMBERS))
    assert store.latest is not None
    return data_dir / store.data_path(store.latest)


def look(data_dir: Path, *arguments: str) -> Ran:
    return pickbox_command("doctor", "log", str(data_dir / "raft" / "log"), *arguments)


def checks(ran: Ran) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in ran.json["checks"]}


def segments(data_dir: Path) -> list[Path]:
    return sorted((data_dir / "raft" / "log").glob("*.log"))


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_a_sound_log_is_told_whole(data_dir: Path) -> None:
    ran = look(data_dir, "--json")
    assert ran.code == 0
    told = ran.json
    assert told["ok"]
    assert (told["term"], told["voted_for"]) == (7, "node2/6a")
    assert (told["first_index"], told["last_index"], told["commit_index"]) == (1, 102, 99)
    assert told["entries"] == {"command": 99, "no-op": 1, "membership": 2}
    assert [part["file"] for part in told["segments"]] == [str(p) for p in segments(data_dir)]
    assert all(part["format"] == 1 for part in told["segments"])
    assert [part["sealed"] for part in told["segments"]][-2:] == [True, False]
    assert told["damages"] == told["snapshots"] == told["last_entries"] == []


def test_people_see_the_same(data_dir: Path) -> None:
    with_snapshot(data_dir, 90)
    told = look(data_dir, "--entries", "3").stdout.decode()
    assert "term        7, voted for node2/6a" in told
    assert "entries     1 to 102: 99 command, 1 no-op, 2 membership" in told
    assert "0000000000000001.log" in told
    assert "90        7     10.7 KiB  node1, node2, node3" in told
    assert "node2: put notes/a.txt (2.0 KiB), make directory notes, move old " in told
    assert told.endswith("snapshot-00000000000000000090.meta  its checksum is right\n")


def test_the_last_entries_are_described(data_dir: Path) -> None:
    entries = look(data_dir, "--json", "--entries", "4").json["last_entries"]
    assert [entry["index"] for entry in entries] == [99, 100, 101, 102]
    single, many, foreign, members = entries
    assert (single["kind"], single["what"]) == ("command", "node2: delete gone too and all in it")
    assert single["bytes"] == len(a_command(CHANGES[4]))
    assert many["what"] == (
        "node2: put notes/a.txt (2.0 KiB), make directory notes, move old \\xff to new and 2 more"
    )
    assert foreign["what"] == (
        f"not decodable: a command of level 238; this release understands up to {LEVEL}"
    )
    assert members["what"] == (
        "version 4: voters node1 (10.0.0.1:8001), node2 (10.0.0.2:8001); learners node3 "
        "(10.0.0.3:8001)"
    )
    assert members["members"]["learners"] == {"node3": "10.0.0.3:8001"}


def test_the_log_is_found_by_the_environment_and_by_the_settings(
    data_dir: Path, tmp_path: Path
) -> None:
    variables = {"PICKBOX_DATA_DIR": str(data_dir)}
    ran = pickbox_command("doctor", "log", "--json", env=variables)
    assert ran.json["directory"] == str(data_dir / "raft" / "log")
    config = tmp_path / "node.toml"
    config.write_text(
        f'node_id = "node1"\ndata_dir = "{data_dir}"\npeers = {{node1 = "127.0.0.1:8001"}}\n'
        + "".join(f'{name} = "{file}"\n' for name, file in tls_settings(NO_FILES).items())
    )
    secrets = {"PICKBOX_ADMIN_TOKEN": "a-token-for-tests-only"}
    for arguments in (("log", "--config", config), ("--config", config, "log")):
        ran = pickbox_command("doctor", *arguments, "--json", env=secrets)
        assert ran.json["directory"] == str(data_dir / "raft" / "log")
    config.write_text("data_dir = 7")
    assert pickbox_command("doctor", "log", "--config", config, env=secrets).code == 78


def test_without_a_directory_it_says_how_one_is_found() -> None:
    ran = pickbox_command("doctor", "log")
    assert ran.code == 2
    assert "by --config or PICKBOX_DATA_DIR" in ran.stderr


def test_a_torn_tail_is_a_warning_that_says_what_will_be_cut(data_dir: Path) -> None:
    newest = segments(data_dir)[-1]
    end = look(data_dir, "--json").json["segments"][-1]["written"]
    flip(newest, end - 3)
    ran = look(data_dir, "--json")
    assert ran.code == 0
    found = checks(ran)[newest.name]
    assert found["level"] == "warn"
    offset = ran.json["segments"][-1]["written"]
    torn = newest.stat().st_size - offset
    assert found["detail"].startswith(
        f"a crash has torn the last write, at offset {offset}: the ch"
    )
    assert found["advice"].startswith(f"The next start cuts {torn} bytes from there on; nobody was")


def test_damage_fails_with_file_offset_and_the_ways_out(data_dir: Path) -> None:
    damaged = segments(data_dir)[1]
    flip(damaged, 1000)
    ran = look(data_dir, "--json")
    assert ran.code == 1
    [damage] = ran.json["damages"]
    assert damage["file"] == str(damaged)
    assert 0 < damage["offset"] <= 1000
    found = checks(ran)[damaged.name]
    assert found["detail"] == f"damaged at offset {damage['offset']}: {damage['found']}"
    assert "move this node's whole data directory away and let it join anew" in found["advice"]
    assert "put back a copy of the data directory from before the damage" in found["advice"]
    assert "as far as it can be read" in look(data_dir).stdout.decode()


def test_a_missing_segment_fails(data_dir: Path) -> None:
    missing = segments(data_dir)[1]
    missing.unlink()
    ran = look(data_dir, "--json")
    assert ran.code == 1
    assert checks(ran)[missing.name]["detail"] == "damaged at offset 0: the file is missing"


def test_the_format_of_a_newer_release_fails_and_names_the_way_out(data_dir: Path) -> None:
    with segments(data_dir)[0].open("r+b") as file:
        file.write(SegmentHeader(1, b"salt" * 2, version=2).encode())
    ran = look(data_dir, "--json")
    assert ran.code == 1
    assert (
        "format 2, and this release knows 1: start the release" in checks(ran)["format"]["detail"]
    )
    assert look(data_dir).code == 1


def test_an_empty_directory_is_a_warning(tmp_path: Path) -> None:
    ran = pickbox_command("doctor", "log", str(tmp_path))
    assert ran.code == 0
    assert "nothing was ever written here" in ran.stdout.decode()


def test_a_directory_that_is_no_log_is_refused(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    ran = pickbox_command("doctor", "log", "--json", str(tmp_path / "other"))
    assert ran.code == 1
    assert ran.json["detail"].endswith("holds no log: no file is named like 0000000000000001.log.")
    above = pickbox_command("doctor", "log", str(data_dir))
    assert (above.code, above.stdout) == (1, b"")
    assert f"Its log is in {data_dir / 'raft' / 'log'}." in above.stderr
    nowhere = pickbox_command("doctor", "log", str(tmp_path / "nowhere"))
    assert nowhere.code == 1
    assert "is not a directory" in nowhere.stderr


def test_the_log_of_a_running_node_is_read_without_its_lock(data_dir: Path) -> None:
    log = open_log(data_dir / "raft" / "log")
    try:
        assert look(data_dir, "--json").json["last_index"] == 102
        log.add(NO_OP, 103, 7)
        log.sync()
        assert look(data_dir, "--json").json["last_index"] == 103
        with pytest.raises(BlockingIOError):
            open_log(data_dir / "raft" / "log")
    finally:
        log.close()


def test_snapshots_are_told_with_their_members(data_dir: Path) -> None:
    with_snapshot(data_dir, 80)
    with_snapshot(data_dir, 90)
    told = look(data_dir, "--json").json
    assert told["ok"]
    newest, older = told["snapshots"]
    assert (newest["index"], newest["term"], newest["size"], older["index"]) == (90, 7, 11000, 80)
    assert newest["members"]["version"] == 4


@pytest.mark.parametrize(
    ("suffix", "said"),
    [(".data", "its SHA-256 is not the one"), (".meta", "its checksum is wrong")],
)
def test_a_damaged_snapshot_fails(data_dir: Path, suffix: str, said: str) -> None:
    flip(with_snapshot(data_dir, 90).with_suffix(suffix), 50)
    ran = look(data_dir, "--json")
    assert ran.code == 1
    found = checks(ran)["snapshot-00000000000000000090.meta"]
    assert said in found["detail"]
    assert found["advice"].startswith("Restore the node from a backup, or move its data directory")


def test_a_snapshot_without_its_data_fails(data_dir: Path) -> None:
    data = with_snapshot(data_dir, 90)
    data.unlink()
    ran = look(data_dir, "--json")
    assert ran.code == 1
    assert ran.json["snapshots"][0]["trouble"] == f"{data} is missing"


def test_a_log_that_does_not_go_on_from_the_newest_snapshot_fails(data_dir: Path) -> None:
    with_snapshot(data_dir, 10)
    log = open_log(data_dir / "raft" / "log")
    log.compact_to(90, 7, keep_trailing=0)
    log.sync()
    first = log.first_index
    log.close()
    ran = look(data_dir, "--json")
    assert ran.code == 1
    assert checks(ran)["snapshots"]["detail"] == (
        f"the log begins at entry {first}, and no snapshot that can be read holds entries 11 to "
        f"{first - 1}"
    )


def test_a_probe_does_not_load_what_reads_logs() -> None:
    program = (
        "import runpy, sys\n"
        "sys.argv[1:] = ['doctor', '--probe', '--monitor-url', 'http://127.0.0.1:1']\n"
        "try: runpy.run_module('pickbox', run_name='__main__')\n"
        "except SystemExit: print('pickbox.consensus' in sys.modules)\n"
    )
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert ran.stdout == "False\n", ran.stderr
