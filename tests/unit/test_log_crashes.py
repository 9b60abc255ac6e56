"""The durable log against crashes at every operation, full disks, and every flipped byte."""

from __future__ import annotations

import copy
import errno
import random
from dataclasses import dataclass, field

import pytest

from pickbox.consensus.log import DurableLog, HardState, LogDamaged, LogStopped, recover
from pickbox.consensus.log.records import BATCH_MAGIC
from simulation.disk import PowerCut, SimulatedDisk

SEGMENT = 2048


def open_log(disk: SimulatedDisk) -> DurableLog:
    return DurableLog.open(disk, "raft", segment_bytes=SEGMENT, cache_bytes=512)


@dataclass
class Model:
    """What the log said at its last sync, and each thing it has said since."""

    entries: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    vote: tuple[int, str | None] = (0, None)
    compacted: int = 0

    def of(self, log: DurableLog) -> Model:
        entries = {index: (command, term) for command, index, term in log[:]}
        vote = (log.hard_state.term, log.hard_state.voted_for)
        return Model(entries, vote, log.compacted[0])


def work(disk: SimulatedDisk, rng: random.Random, rounds: int, history: list[Model]) -> None:
    """A node's life: appends, conflicts, votes, compactions and snapshots, synced now and then."""
    log = open_log(disk)
    history.append(Model().of(log))
    term = log.hard_state.term
    for _ in range(rounds):
        match rng.randrange(12):
            case 0:
                term += 1
                log.set_hard_state(term, rng.choice([None, "node1/ab", "node2/cd"]))
            case 1 if log.last_index > log.compacted[0] and len(log):
                first = max(log.first_index, log.compacted[0] + 1)
                log.truncate_from(rng.randint(first, log.last_index))
            case 2 if len(log) > 3:
                index = rng.randint(max(log.first_index, log.compacted[0]), log.last_index)
                log.compact_to(index, log.term_at(index), keep_trailing=rng.randint(1, 5))
            case 3 if rng.random() < 0.2:
                log.compact_to(log.last_index + rng.randint(1, 9), term, keep_trailing=1)
            case 4 if log.last_index > log.compacted[0] and len(log) and rng.random() < 0.2:
                term += 1  # another past than the log's
                first = max(log.first_index, log.compacted[0] + 1)
                log.compact_to(rng.randint(first, log.last_index), term, keep_trailing=1)
            case _:
                for _ in range(rng.randint(1, 4)):
                    log.add(rng.randbytes(rng.randint(0, 300)), log.last_index + 1, term)
        if rng.random() < 0.7:
            history.append(Model().of(log))  # under way: this sync may or may not be survived
            log.sync()
            del history[:-1]  # survived for certain
    log.close()


def check(found: Model, history: list[Model]) -> None:
    """All that was synced is there, and nothing that was never said."""
    assert found.vote in [said.vote for said in history]
    assert found.compacted in [said.compacted for said in history]
    wrong = [differences(found, said) for said in history]
    assert [] in wrong, wrong


def differences(found: Model, said: Model) -> list[int]:
    """Indexes of other entries; those that a snapshot holds may be here or not."""
    held = max(found.compacted, said.compacted)
    both = found.entries.keys() | said.entries.keys()
    return [
        index
        for index in sorted(both)
        if found.entries.get(index) != said.entries.get(index)
        and (index > held or (index in found.entries and index in said.entries))
    ]


@pytest.mark.parametrize("seed", range(12))
def test_p04_a_power_cut_at_any_operation_keeps_what_was_synced(seed: int) -> None:
    rehearsal = SimulatedDisk()
    work(rehearsal, random.Random(seed), 40, [])
    for cut_at in range(1, rehearsal.operations + 1):
        disk, history = SimulatedDisk(), [Model()]
        disk.cut_at = cut_at
        with pytest.raises(PowerCut):
            work(disk, random.Random(seed), 40, history)
        rng = random.Random(seed * 1000 + cut_at)
        disk.power_up(rng)
        log = open_log(disk)
        check(Model().of(log), history)
        log.close()
        assert recover(disk, "raft").torn == 0  # what was cut is gone from the disk
        work(disk, rng, 10, [])  # and it goes on


def fill(log: DurableLog, count: int) -> None:
    """Append entries, some to a segment, each with a sync of its own."""
    for _ in range(count):
        log.add(b"x" * 300, log.last_index + 1, 3)
        log.sync()


def test_p04_a_vote_outlives_the_segments_before_one_that_a_crash_left_empty() -> None:
    rehearsal = SimulatedDisk()
    fill(open_log(rehearsal), 20)
    for cut_at in range(1, rehearsal.operations + 1):
        disk = SimulatedDisk()
        log = open_log(disk)
        log.set_hard_state(3, "node1/ab")
        log.sync()
        disk.cut_at = disk.operations + cut_at
        with pytest.raises(PowerCut):
            fill(log, 40)
        disk.power_up(random.Random(cut_at))
        log = open_log(disk)
        fill(log, 1)  # into the newest segment, which becomes the oldest
        log.compact_to(log.last_index, 3, keep_trailing=0)
        log.sync()
        log.close()
        again = open_log(disk)
        assert again.hard_state == HardState(3, "node1/ab")
        assert again.compacted == (log.last_index, 3)


@pytest.mark.parametrize("kind", ["killed", "refused"])
def test_what_the_kernel_alone_had_is_durable_before_it_counts(kind: str) -> None:
    rehearsal = SimulatedDisk()
    work(rehearsal, random.Random(3), 60, [])
    for operation in range(1, rehearsal.operations + 1):
        disk = SimulatedDisk(random.Random(operation))
        if kind == "killed":
            disk.cut_at = operation
        else:
            disk.fails_at = operation
        with pytest.raises(PowerCut if kind == "killed" else LogStopped):
            work(disk, random.Random(3), 60, [Model()])
        disk.end_process()
        disk.fails_at = 0
        log = open_log(disk)
        counted = Model().of(log)
        log.close()
        disk.power_up(random.Random(operation))
        assert Model().of(open_log(disk)) == counted


def test_a_power_cut_during_recovery_loses_nothing() -> None:
    disk, history = SimulatedDisk(), [Model()]
    disk.cut_at = 60
    with pytest.raises(PowerCut):
        work(disk, random.Random(1), 400, history)
    disk.power_up(random.Random(2))
    for seed in range(40):
        again = copy.deepcopy(disk)
        again.cut_at = again.operations + 1 + seed % 4
        try:
            open_log(again)
        except PowerCut:
            again.power_up(random.Random(seed))
        else:
            again.power_up(random.Random(seed))
        check(Model().of(open_log(again)), history)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_stops_the_log_for_good(error: int) -> None:
    rehearsal = SimulatedDisk()
    work(rehearsal, random.Random(7), 40, [])
    for fails_at in range(1, rehearsal.operations + 1, 3):
        disk, history = SimulatedDisk(), [Model()]
        disk.fails_at, disk.error = fails_at, error
        with pytest.raises(LogStopped):
            work(disk, random.Random(7), 40, history)
        disk.power_up(random.Random(fails_at))
        check(Model().of(open_log(disk)), history)


def test_a_log_that_has_stopped_takes_nothing_even_when_the_disk_is_back() -> None:
    disk = SimulatedDisk()
    log = open_log(disk)
    log.add(b"one", 1, 1)
    disk.fails_at = disk.operations + 1
    with pytest.raises(LogStopped):
        log.sync()
    disk.fails_at = 0
    for attempt in (log.sync, lambda: log.add(b"two", 2, 1), lambda: log.set_hard_state(2, None)):
        with pytest.raises(LogStopped, match="the disk refused"):
            attempt()


def small_log() -> tuple[SimulatedDisk, Model, str]:
    disk = SimulatedDisk()
    log = open_log(disk)
    for index in range(1, 31):
        log.add(b"command %d " % index * 5, index, 1 + index // 10)
        if index % 3 == 0:
            log.set_hard_state(1 + index // 10, f"node{index}/ab")
            log.sync()
    said = Model().of(log)
    log.close()
    assert len(disk.names("raft")) == 2
    return disk, said, "raft/" + disk.names("raft")[0]


def test_p03_every_flipped_byte_is_found_or_cut_off_at_the_tail() -> None:
    pristine, said, _ = small_log()
    found_damage = 0
    newest = pristine.names("raft")[-1]
    last_batch = bytes(pristine.content("raft/" + newest)).rindex(BATCH_MAGIC)
    for name in pristine.names("raft"):
        for offset in range(len(pristine.content("raft/" + name))):
            disk = copy.deepcopy(pristine)
            disk.content("raft/" + name)[offset] ^= 0x40
            try:
                log = open_log(disk)
            except LogDamaged:
                found_damage += 1
                continue
            found = Model().of(log)
            assert all(said.entries[index] == entry for index, entry in found.entries.items())
            assert found.vote[0] <= said.vote[0]
            in_last_batch = name == newest and offset >= last_batch
            assert in_last_batch or found == said
    assert found_damage > 1500


def test_damage_says_where_it_is_and_what_the_ways_out_are() -> None:
    disk, _, first = small_log()
    disk.content(first)[200] ^= 1
    with pytest.raises(LogDamaged, match=r"raft/0+1\.log, offset \d+: .* join anew") as caught:
        open_log(disk)
    assert caught.value.offset <= 200


def test_a_finished_segment_that_lost_its_end_is_damage() -> None:
    disk = SimulatedDisk()
    log = open_log(disk)
    while len(disk.names("raft")) == 1:
        log.add(b"x" * 100, log.last_index + 1, 1)
        log.sync()
    log.close()
    first, second = ("raft/" + name for name in disk.names("raft"))
    for name in (first, second):  # of the second, what its beginning repeats is left
        content = disk.content(name)
        end = bytes(content).rindex(BATCH_MAGIC)
        content[end:] = bytes(len(content) - end)
    with pytest.raises(LogDamaged, match="before it was finished"):
        open_log(disk)


def test_a_missing_segment_is_damage() -> None:
    disk, _, first = small_log()
    disk.remove(first)
    with pytest.raises(LogDamaged, match="the file is missing"):
        open_log(disk)


def test_damage_that_appears_while_the_node_runs_is_found_when_it_is_read() -> None:
    disk = SimulatedDisk()
    log = open_log(disk)
    for index in range(1, 20):
        log.add(b"%d" % index * 100, index, 1)
        log.sync()
    place = bytes(disk.content("raft/0000000000000001.log")).index(b"1" * 100)
    disk.content("raft/0000000000000001.log")[place] ^= 1
    with pytest.raises(LogDamaged, match="checksum"):
        log[0]
