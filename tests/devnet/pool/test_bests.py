"""Bests: three scopes, narrowest first; the week ends on Monday 00:00 UTC; a restart keeps them."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from devnet.pool.bests import Bests, BestsError, Broken, iso_week, write_whole


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


MONDAY = at("2026-11-16T00:00:00")


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


def test_a_late_share_of_last_week_does_not_bring_it_back() -> None:
    bests = Bests()
    bests.accept(MONDAY, "alice", 0.0, 2.0)
    broken = bests.accept(MONDAY - 1, "alice", 2.0, 9.0)
    assert [item.period for item in broken] == ["session", "alltime"]
    assert bests.weekly == {"alice": 2.0}


def test_bests_survive_in_their_file(tmp_path: Path) -> None:
    path = tmp_path / "bests.json"
    assert Bests.load(path) == Bests()
    bests = Bests()
    bests.accept(MONDAY, "alice", 0.0, 0.1 + 0.2)
    write_whole(path, bests.dump())
    loaded = Bests.load(path)
    assert (loaded.week, loaded.weekly, loaded.alltime) == (
        "2026-W47",
        {"alice": 0.1 + 0.2},
        {"alice": 0.1 + 0.2},
    )
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 2}',
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
