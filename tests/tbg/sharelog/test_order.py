"""Shares of many logs come in the order of their times."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from tbg.sharelog.line import Share
from tbg.sharelog.log import NumberedShare
from tbg.sharelog.order import in_order


def numbered(log: int, times: list[int]) -> list[NumberedShare]:
    return [
        NumberedShare(Share(time, {}, frozenset()), str(log), seq)
        for seq, time in enumerate(times, 1)
    ]


@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8), max_size=6))
def test_overlapping_logs_are_merged_and_each_keeps_its_order(logs: list[list[int]]) -> None:
    made = sorted((min(times), numbered(n, sorted(times))) for n, times in enumerate(logs))
    merged = list(in_order(made, iter))
    assert [one.share.micros for one in merged] == sorted(time for times in logs for time in times)
    for log in {one.instance for one in merged}:
        numbers = [one.seq for one in merged if one.instance == log]
        assert numbers == list(range(1, len(numbers) + 1))


def test_a_log_is_opened_only_when_its_time_has_come() -> None:
    opened: list[int] = []

    def shares(log: int) -> Iterator[NumberedShare]:
        opened.append(log)
        return iter(numbered(log, [log * 10, log * 10 + 12]))

    merged = in_order([(log * 10, log) for log in range(5)], shares)
    assert next(merged).share.micros == 0
    assert opened == [0]
    assert [next(merged).share.micros for _ in range(3)] == [10, 12, 20]
    assert len(opened) <= 4


def test_lines_out_of_order_and_logs_without_a_share_hold_nothing_up() -> None:
    sources = [(0, numbered(0, [5, 3, 9])), (0, []), (4, numbered(1, [4, 8]))]
    assert [one.share.micros for one in in_order(sources, iter)] == [4, 5, 3, 8, 9]
