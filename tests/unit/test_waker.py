"""What ends another thread's wait."""

from __future__ import annotations

import os
import select
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from pickbox.waker import Waker

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def waker() -> Iterator[Waker]:
    waker = Waker()
    yield waker
    waker.close()


def is_awake(waker: Waker) -> bool:
    return bool(select.select([waker], [], [], 0)[0])


def test_it_is_readable_from_a_wake_until_it_is_cleared(waker: Waker) -> None:
    for _ in range(3):
        assert not is_awake(waker)
        waker.wake()
        waker.wake()
        assert is_awake(waker)
        waker.clear()
    waker.clear()
    assert not is_awake(waker)


def test_a_wake_from_another_thread_ends_a_wait(waker: Waker) -> None:
    with ThreadPoolExecutor(1) as another:
        wait = another.submit(select.select, [waker], [], [], 30)
        waker.wake()
        assert wait.result()[0] == [waker]


def test_closed_it_writes_into_no_file_that_has_got_its_number() -> None:
    waker = Waker()
    number = waker.fileno()
    waker.close()
    waker.close()
    opened = [os.memfd_create(f"file {n}") for n in range(32)]
    try:
        assert number in opened
        waker.wake()
        waker.clear()
        assert waker.fileno() == -1
        assert [os.fstat(descriptor).st_size for descriptor in opened] == [0] * 32
    finally:
        for descriptor in opened:
            os.close(descriptor)


def test_it_may_be_closed_while_others_wake() -> None:
    def wake_many_times(waker: Waker) -> None:
        for _ in range(200):
            waker._woken = False  # as if it was always read meanwhile
            waker.wake()

    with ThreadPoolExecutor(4) as others:
        for _ in range(100):
            waker = Waker()
            waking = [others.submit(wake_many_times, waker) for _ in range(4)]
            waker.close()
            for each in waking:
                each.result()
