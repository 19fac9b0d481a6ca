"""What is known of miners is what a dictionary would hold."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from ingest.writer.compact import Column, Directory

# Names that a careless key would take for each other, and enough others to grow.
PIECE = st.sampled_from(["", ".", "a", "1", "-", "1.a", "a.1", "-a", "\0", "é"])
NAME = st.tuples(
    st.one_of(PIECE, st.integers(0, 5000).map("bcrt1q{}".format)), st.one_of(PIECE, st.none())
)


@given(st.lists(st.tuples(NAME, st.integers(1, 2**31 - 1)), max_size=200), st.integers(0, 3000))
def test_a_directory_finds_what_was_put_in_and_nothing_else(
    puts: list[tuple[tuple[str, str | None], int]], more: int
) -> None:
    directory, model = Directory(), dict[tuple[str, str | None], int]()
    many: list[tuple[tuple[str, str | None], int]] = [
        (("user", f"rig-{number}"), number + 1) for number in range(more)
    ]
    for name, number in many + puts:
        assert directory.get(*name) == model.get(name, 0)
        directory.put(*name, number)
        model[name] = number
    assert len(directory) == len(model)
    for name, number in model.items():
        assert directory.get(*name) == number
    assert directory.get("user", "another") == 0


@given(st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 255))))
def test_a_column_holds_what_was_set_and_is_blank_elsewhere(sets: list[tuple[int, int]]) -> None:
    column, model = Column("B", 7), dict[int, int]()
    for number, value in sets:
        column[number] = value
        model[number] = value
    for number, _ in sets:
        for near in (number - 1, number, number + 1, number ^ 256):
            if near >= 0:
                assert column[near] == model.get(near, 7)
    assert column.pages <= len(model)


def test_a_name_costs_at_most_fifty_bytes_and_a_value_little_more_than_itself() -> None:
    directory, column = Directory(), Column("d", -1.0)
    for number in range(1, 100_001):
        directory.put("bcrt1quser", f"rig-{number}", number)
        column[number] = float(number)
    parts = zip(directory._keys, directory._checks, directory._numbers, strict=True)
    assert sum(sys.getsizeof(array) for part in parts for array in part) < 50 * 100_000
    pages = column._pages
    assert sum(map(sys.getsizeof, pages.values())) + sys.getsizeof(pages) < 9 * 100_000
