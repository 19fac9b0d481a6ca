"""Routes: each mistake in the file is named, and secrets stay secret."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbg_notify.kinds import Message, Worker
from tbg_notify.quiet import Quiet
from tbg_notify.routes import Route, RoutesError, load

BERLIN = ZoneInfo("Europe/Berlin")
GOOD = "json://127.0.0.1:1"


def written(tmp_path: Path, text: str, **environ: str) -> dict[str, Route]:
    path = tmp_path / "alerts.yml"
    path.write_text(text)
    return load(path, environ)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("routes: [", "not YAML at line"),
        ("- a", "should be a valid dictionary"),
        ("rotes: {}", "rotes: is not a setting: choose from routes"),
        ("routes: {a: {}}", "routes.a.to: is missing"),
        ("routes: {'a b': {to: 'json://h'}}", "routes.a b"),
        ("routes: {a: {to: 'nonsense://x'}}", "(nonsense:…) is not understood"),
        ("routes: {a: {to: 'json://h', kinds: [blok]}}", "'blok' is no kind: choose from"),
        ("routes: {a: {to: 'json://h', severity: loud}}", "'info', 'warning' or 'critical'"),
        ("routes: {a: {to: 'json://h', zone: Europe/Berln, quiet: 22:00-07:00}}",
         "'Europe/Berln' is no time zone"),
        ("routes: {a: {to: 'json://h', zone: Europe/Berlin, quiet: 22-7}}",
         "must look like 22:00-07:00"),
        ("routes: {a: {to: 'json://h', quiet: 22:00-07:00}}", "quiet needs zone"),
        ("routes: {a: {to: 'json://h', cap: 0}}", "routes.a.cap"),
        ("routes: {a: {to: 'json://h', mute: x}}", "mute: is not a setting: choose from to, kinds"),
        ("routes: {a: {to: 'tgram://${TOKEN}/1'}}", "TOKEN is not set or empty"),
        ("routes: {a: {to: '${file:/nonexistent/x}'}}", "/nonexistent/x cannot be read: No such"),
    ],
)  # fmt: skip
def test_each_mistake_is_named_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(RoutesError) as error:
        written(tmp_path, text)
    assert says in str(error.value)
    assert "ALERTS_FILE" in str(error.value)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(RoutesError) as error:
        written(tmp_path, "routes: {a: {to: 'json://h', cap: 0}, b: {kinds: [x]}}")
    assert len(str(error.value).splitlines()) == 4


def test_a_secret_in_the_file_itself_is_refused_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(RoutesError, match="holds a secret: write it as") as error:
        written(tmp_path, "routes: {a: {to: 'mailto://me:geheim@example.org'}}")
    assert "geheim" not in str(error.value)


def test_secrets_come_from_the_environment_or_a_file_and_are_not_in_the_repr(
    tmp_path: Path,
) -> None:
    secret = tmp_path / "url"
    secret.write_text("mailto://me:ge%40heim@example.org\n")
    text = (
        f"routes: {{a: {{to: 'mailto://me:${{PW}}@example.org'}}, b: {{to: '${{file:{secret}}}'}}}}"
    )
    routes = written(tmp_path, text, PW="g/h@")
    assert set(routes) == {"a", "b"}
    assert "g/h@" not in repr(routes)


def test_without_a_file_there_are_no_routes() -> None:
    assert load(None) == {}


def at(kind: str, *workers: str, user: str | None = None) -> Message:
    found = tuple(Worker(a, b) for a, _, b in (one.partition(".") for one in workers))
    return Message(1, "k", (kind,), "warning", datetime.now(UTC), user, found)


def test_patterns_choose_users_and_workers_and_the_system_stays_with_operators() -> None:
    mine = Route(to=GOOD, users=("bc1qme*",), workers=("rig*",))
    assert [one.key for one in mine.workers_of(at("worker_offline", "bc1qme1.rig1", "x.rig1", "bc1qme1.s9"))] == ["bc1qme1.rig1"]  # fmt: skip
    assert mine.refuses(at("block_found", user="other"))
    assert mine.refuses(at("system"))
    assert not Route(to=GOOD).refuses(at("system"))
    assert not Route(to=GOOD, users=("bc1qme",), kinds=("system",)).refuses(at("system"))
    assert not mine.refuses(at("weekly_result"))
    assert Route(to=GOOD, severity="critical").refuses(at("weekly_result"))


# --- Quiet hours -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "until"),
    [
        # An ordinary night, winter and summer.
        ("2026-01-10T23:00+01:00", "2026-01-11T07:00+01:00"),
        ("2026-07-10T23:00+02:00", "2026-07-11T07:00+02:00"),
        # Clocks go forward on 29 March, back on 25 October: the night has 8 or 10 hours.
        ("2026-03-28T22:00+01:00", "2026-03-29T07:00+02:00"),
        ("2026-10-24T22:00+02:00", "2026-10-25T07:00+01:00"),
        ("2026-10-25T02:30+02:00", "2026-10-25T07:00+01:00"),
        ("2026-01-10T12:00+01:00", "2026-01-10T12:00+01:00"),
    ],
)
def test_quiet_hours_end_by_the_clock_on_the_wall(moment: str, until: str) -> None:
    quiet = Quiet.parse("22:00-07:00")
    assert quiet.until(datetime.fromisoformat(moment), BERLIN) == datetime.fromisoformat(until)


def test_an_end_that_does_not_exist_or_comes_twice_is_right() -> None:
    quiet = Quiet.parse("22:00-02:30")
    # 02:30 is skipped: at 03:00 the night is over.
    spring = quiet.until(datetime.fromisoformat("2026-03-29T01:59+01:00"), BERLIN)
    assert spring == datetime.fromisoformat("2026-03-29T03:00+02:00")
    # 02:30 comes twice: it is over at the first, and 02:10 of the second hour is quiet.
    autumn = quiet.until(datetime.fromisoformat("2026-10-25T01:00+02:00"), BERLIN)
    assert autumn == datetime.fromisoformat("2026-10-25T02:30+02:00")


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
    st.integers(0, 1439),
    st.integers(1, 1439),
)
def test_the_end_of_quiet_is_not_quiet_and_every_minute_before_is(
    moment: datetime, zone: str, start: int, length: int
) -> None:
    end = (start + length) % 1440
    quiet = Quiet.parse(f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}")
    where, now = ZoneInfo(zone), moment.replace(tzinfo=UTC)
    until = quiet.until(now, where)
    assert not quiet.holds(until, where)
    assert now <= until <= now + timedelta(hours=26)
    if until > now:
        assert quiet.holds(until - timedelta(minutes=1), where)


def test_a_route_without_kinds_says_why_a_kind_passes_it_by() -> None:
    everything = Route(to=GOOD).refuses(at("best_worker", "a.b"))
    assert everything == "best_worker goes only to a route that names it (kinds: [best_worker])"
    mine = Route(to=GOOD, users=("a",)).refuses(at("system"))
    assert mine == "system does not concern certain miners, and its kinds do not name it"
    named = Route(to=GOOD, kinds=("block_found",)).refuses(at("system"))
    assert named == "kind system is not among its kinds"
