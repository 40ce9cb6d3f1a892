"""Jobs side by side: shares of a cluster, errors that stay where they are, Ctrl-C for all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.engine.machines import lanes as module
from pipelines.engine.machines.lanes import WHOLE, Share, Shares, beside, interrupt, side_by_side
from tests.waiting import LIMIT


@given(st.integers(0, 100), st.integers(1, 12))
def test_shares_are_about_equal_and_make_up_the_whole(workers: int, of: int) -> None:
    parts = [Share(rank, of).part(workers) for rank in range(of)]
    assert sum(parts) == workers and max(parts) - min(parts) <= 1
    assert WHOLE.part(workers) == workers


@given(st.integers(1, 40), st.integers(2, 6), st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=12))
def test_together_they_never_hold_more_than_there_is(workers: int, lanes: int, moves: list[tuple[int, bool]]) -> None:
    shares, held = Shares(lanes), {lane: Share(lane, lanes).part(workers) for lane in range(lanes)}
    for lane, leaves in moves:
        if lane not in held:
            continue
        if leaves:
            shares.leave(lane)
            del held[lane]
        else:
            before, held[lane] = held[lane], shares.of(lane).part(workers)
            assert held[lane] >= before, "a share never shrinks"
        assert sum(held.values()) <= workers


def test_jobs_run_at_the_same_time_as_many_as_there_are_lanes() -> None:
    together = threading.Barrier(2, timeout=LIMIT)
    seen: list[Share] = []

    def job(share: Callable[[], Share]) -> None:
        seen.append(share())
        together.wait()

    assert side_by_side({str(number): job for number in range(4)}, lanes=2) == {}
    assert {(share.rank, share.of) for share in seen[:2]} == {(0, 2), (1, 2)}


def test_one_lane_is_this_thread() -> None:
    threads: list[threading.Thread] = []
    side_by_side({"a": lambda _: threads.append(threading.current_thread())}, lanes=1)
    assert threads == [threading.current_thread()]


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_job_that_fails_costs_only_itself(lanes: int) -> None:
    done: list[str] = []

    def fail(_: object) -> None:
        raise ZeroDivisionError("for the test")

    jobs = {"bad": fail, "good": lambda _: done.append("good"), "late": lambda _: done.append("late")}
    errors = side_by_side(jobs, lanes)
    assert list(errors) == ["bad"] and isinstance(errors["bad"], ZeroDivisionError) and sorted(done) == ["good", "late"]


def test_an_interrupt_reaches_every_thread_and_ends_it() -> None:
    ended: list[int] = []
    at_work = threading.Barrier(4, timeout=LIMIT)  # an interrupt before its `try` would end a thread unseen

    def work(number: int) -> None:
        try:
            at_work.wait()
            while True:
                time.sleep(0.01)
        except KeyboardInterrupt:
            ended.append(number)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(3)]
    for thread in threads:
        thread.start()
    at_work.wait()
    interrupt(threads, seconds=LIMIT)
    assert sorted(ended) == [0, 1, 2] and not any(thread.is_alive() for thread in threads)


def test_an_interrupt_starts_no_further_job(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def job(_: object) -> None:
        begun.append("one")
        while True:
            threading.Event().wait(0.01)

    def ctrl_c(_: float) -> None:
        if len(begun) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module.time, "sleep", ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        side_by_side({str(number): job for number in range(5)}, lanes=2)
    assert begun == ["one", "one"]


def test_both_of_two_jobs_side_by_side_are_done() -> None:
    both_at_work, done = threading.Barrier(2, timeout=LIMIT), []

    def job(name: str) -> None:
        both_at_work.wait()
        done.append(name)

    beside(lambda: job("work"), lambda: job("aside"))
    assert sorted(done) == ["aside", "work"]


def test_an_error_of_the_job_beside_the_work_is_raised_when_the_work_is_done() -> None:
    done: list[str] = []

    def fail() -> None:
        raise ValueError("aside")

    with pytest.raises(ValueError, match="aside"):
        beside(lambda: done.append("work"), fail)
    assert done == ["work"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_of_the_work_ends_the_job_beside_it(error: type[BaseException]) -> None:
    at_work, ended = threading.Event(), threading.Event()

    def aside() -> None:
        at_work.set()
        try:
            while True:
                time.sleep(0.01)
        except KeyboardInterrupt:
            ended.set()
            raise

    def work() -> None:
        at_work.wait(LIMIT)
        raise error

    with pytest.raises(error):
        beside(work, aside)
    assert ended.is_set()
