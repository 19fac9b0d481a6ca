"""Bests: three scopes, narrowest first; the week ends on Monday 00:00 UTC; a restart keeps them."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnet.pool.bests import WEEKS_KEPT, Bests, BestsError, Broken
from tbg_core.files import write_private
from tbg_core.periods import iso_week


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


MONDAY = at("2026-11-16T00:00:00")
DAY = 86_400_000_000


@pytest.mark.parametrize(
    ("moment", "week"),
    [
        ("2026-11-15T23:59:59.999999", "2026-W46"),
        ("2026-11-16T00:00:00", "2026-W47"),
        ("2026-12-31T12:00:00", "2026-W53"),
        ("2027-01-03T23:59:59", "2026-W53"),
        ("2027-01-04T00:00:00", "2027-W01"),
    ],
)
def test_weeks_are_iso_weeks_in_utc(moment: str, week: str) -> None:
    assert iso_week(at(moment)) == week


def test_a_first_share_breaks_every_scope_narrowest_first() -> None:
    broken = Bests().accept(MONDAY, "alice", 0.0, 5.0)
    assert broken == [
        Broken("session", 0.0, 5.0, "2026-W47"),
        Broken("week", 0.0, 5.0, "2026-W47"),
        Broken("alltime", 0.0, 5.0, "2026-W47"),
    ]


def test_a_new_session_does_not_forget_the_week() -> None:
    bests = Bests()
    bests.accept(MONDAY, "alice", 0.0, 5.0)
    broken = bests.accept(MONDAY + 1, "alice", 0.0, 4.0)
    assert [(item.period, item.previous) for item in broken] == [("session", 0.0)]
    assert bests.accept(MONDAY + 2, "alice", 4.0, 4.0) == []
    assert bests.accept(MONDAY + 3, "bob", 0.0, 1.0)[-1].period == "alltime"


def test_a_new_week_starts_from_nothing_and_all_time_stays() -> None:
    bests = Bests()
    bests.accept(MONDAY - 1, "alice", 0.0, 5.0)
    broken = bests.accept(MONDAY, "alice", 5.0, 2.0)
    assert broken == [Broken("week", 0.0, 2.0, "2026-W47")]
    assert bests.alltime == {"alice": 5.0}


def weekly(broken: list[Broken]) -> list[tuple[float, float, str]]:
    return [(item.previous, item.new, item.week) for item in broken if item.period == "week"]


def test_a_clock_that_goes_14_days_ahead_and_back_hides_no_best_of_either_week() -> None:
    bests = Bests()
    bests.accept(MONDAY, "alice", 0.0, 2.0)
    ahead = bests.accept(MONDAY + 14 * DAY, "alice", 2.0, 9.0)
    assert weekly(ahead) == [(0.0, 9.0, "2026-W49")]
    # Back again: the week goes on where it was, with its own best to break.
    assert weekly(bests.accept(MONDAY + 1, "alice", 9.0, 1.5)) == []
    assert weekly(bests.accept(MONDAY + 2, "alice", 9.0, 3.0)) == [(2.0, 3.0, "2026-W47")]
    # And when that week really comes, what was mined before it does not stand in its way.
    assert weekly(bests.accept(MONDAY + 14 * DAY, "alice", 9.0, 4.0)) == [(0.0, 4.0, "2026-W49")]


def test_a_clock_that_goes_back_and_ahead_again_blocks_no_best_either() -> None:
    bests = Bests()
    bests.accept(MONDAY, "alice", 0.0, 2.0)
    bests.accept(MONDAY - 14 * DAY, "alice", 2.0, 5.0)
    assert weekly(bests.accept(MONDAY + 1, "alice", 5.0, 3.0)) == [(0.0, 3.0, "2026-W47")]


def test_a_restart_under_a_wrong_clock_is_recovered_from_as_well(tmp_path: Path) -> None:
    path = tmp_path / "bests.json"
    path.write_text(
        json.dumps(
            {"format": 1, "week": "2031-W07", "weekly": {"alice": 9.0}, "alltime": {"alice": 9.0}}
        )
    )
    bests = Bests.load(path)
    assert weekly(bests.accept(MONDAY, "alice", 0.0, 2.0)) == [(0.0, 2.0, "2026-W47")]


@given(st.lists(st.tuples(st.integers(-400, 400), st.floats(1e-9, 1e15)), max_size=60))
def test_whatever_the_clock_did_the_first_share_under_the_right_one_can_break_its_week(
    shares: list[tuple[int, float]],
) -> None:
    bests = Bests()
    for day, diff in shares:
        bests.accept(MONDAY + day * DAY, "alice", 0.0, diff)
        assert len(bests.weeks) <= WEEKS_KEPT
        # All that is left of a week is what was mined under its name, and nothing lies ahead.
        assert max(bests.weeks) == iso_week(MONDAY + day * DAY)
    before = bests.weeks.get("2026-W47", {}).get("alice", 0.0)
    own = [diff for day, diff in shares if 0 <= day < 7]
    assert before == 0.0 or before in own
    assert weekly(bests.accept(MONDAY, "alice", 0.0, 2e15)) == [(before, 2e15, "2026-W47")]


def test_bests_survive_in_their_file(tmp_path: Path) -> None:
    path = tmp_path / "bests.json"
    assert Bests.load(path) == Bests()
    bests = Bests()
    bests.accept(MONDAY, "alice", 0.0, 0.1 + 0.2)
    write_private(path, bests.dump())
    loaded = Bests.load(path)
    assert loaded.weeks == {"2026-W47": {"alice": 0.1 + 0.2}}
    assert loaded.alltime == {"alice": 0.1 + 0.2}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 2}',
        '{"format": 3}',
        '{"format": 2, "weeks": [], "alltime": {}}',
        '{"format": 2, "weeks": {"2026-W47": {"alice": 0.0}}, "alltime": {}}',
        '{"format": 1, "week": 5, "weekly": {}, "alltime": {}}',
        '{"format": 1, "week": "", "weekly": [], "alltime": {}}',
        '{"format": 1, "week": "", "weekly": {}, "alltime": {"alice": "x"}}',
        '{"format": 1, "week": "", "weekly": {}, "alltime": {"alice": NaN}}',
        '{"format": 1, "week": "", "weekly": {}, "alltime": {"alice": -1.0}}',
    ],
)
def test_a_damaged_file_is_named_and_not_overwritten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bests.json"
    path.write_text(text)
    with pytest.raises(BestsError, match=r"bests\.json.*move it away"):
        Bests.load(path)
    assert path.read_text() == text
