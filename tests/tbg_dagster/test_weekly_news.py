"""A week is done when the world was told: what fails on the way is asked for again."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from tbg_core.names import WEEKLY_RESET_STREAM, leaderboard_key, stream_of
from tbg_dagster.catch_up.sensors import late_shares_sensor
from tbg_dagster.resources import RedisServer, Thresholds
from tbg_dagster.weekly import assets
from tbg_dagster.weekly import week as week_module
from tbg_dagster.weekly.week import bounds, freeze
from tests.clock import Clock
from tests.tbg_dagster.conftest import Connection, History, Run, last_monday, metadata_of

# Names that matplotlib, a font, Markdown or a terminal would make something of.
NAMES = [
    r"$\q$",
    "$x_$",
    "a$b$c",
    r"\frac{1}{0}",
    "\x1b[2J\x07",
    "\u202egnp.exe",
    "🐋" * 40,
    "\uffff",
    "a\nb\tc",
    "<img src=x>",
    "x" * 90,
    "",
]
AWAY = RedisServer(url="redis://127.0.0.1:1/0")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries and second looks follow at once."""
    monkeypatch.setattr("tbg_dagster.verdict.SETTLE_SECONDS", 0.0)


@pytest.fixture
def owed(
    instance: dg.DagsterInstance, resources: dict[str, Any]
) -> Callable[[], list[tuple[str, str | None]]]:
    """One tick of the sensor for late shares: jobs and partitions that it asks for."""

    def tick() -> list[tuple[str, str | None]]:
        context = dg.build_sensor_context(
            instance=instance,
            resources={name: resources[name] for name in ("database", "thresholds")},
        )
        found = late_shares_sensor(context)
        if not isinstance(found, dg.SensorResult):
            return []
        return [(str(one.job_name), one.partition_key) for one in found.run_requests or []]

    return tick


def key() -> str:
    return f"{last_monday():%Y-%m-%d}"


def told(client: Any) -> list[dict[str, Any]]:
    return [json.loads(fields["data"]) for _, fields in client.xrange(WEEKLY_RESET_STREAM)]


def winners(client: Any) -> list[tuple[str, str]]:
    return [(news["kind"], news["winner"]["user"]) for news in told(client)]


def passed(result: dg.ExecuteInProcessResult, check: str) -> bool:
    return all(
        one.passed for one in result.get_asset_check_evaluations() if one.check_name == check
    )


def corrected(history: History, run: Run) -> None:
    """Alice has won, and a late share of bob's is better: its hour is computed again."""
    monday = last_monday()
    history.share("alice.w", monday, 5000.0)
    history.share("bob.w", monday + timedelta(minutes=1), 4000.0)
    run("hourly_rollup", f"{key()}-00:00")
    run("daily_rollup", key())
    run("weekly_reset", key())
    history.share("bob.w", monday + timedelta(minutes=2), 9999.0)
    history.late(monday, 1)
    run("hourly_rollup", f"{key()}-00:00")
    run("daily_rollup", key())


# --- The last effect -------------------------------------------------------------------


def test_a_correction_that_found_redis_away_is_asked_for_until_it_was_told(
    connection: Connection,
    client: Any,
    history: History,
    run: Run,
    resources: dict[str, Any],
    owed: Callable[[], list[tuple[str, str | None]]],
) -> None:
    corrected(history, run)
    reachable, resources["redis_server"] = resources["redis_server"], AWAY
    assert not run("weekly_reset", key(), raise_on_error=False).success
    assert not passed(run("quality", raise_on_error=False), "publications_equal_results")
    resources["redis_server"] = reachable
    assert owed() == [("weekly_reset", key())]
    run(*owed()[0])
    assert winners(client) == [("result", "alice"), ("correction", "bob")]
    assert owed() == []
    assert passed(run("quality", raise_on_error=False), "publications_equal_results")


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (assets, "deliver"),
        (assets, "freeze"),
        (assets, "announce"),
        (assets, "ranking"),
        (week_module, "post"),
    ],
)
def test_whatever_step_of_the_news_fails_they_come_once_it_works(
    client: Any,
    history: History,
    run: Run,
    owed: Callable[[], list[tuple[str, str | None]]],
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    step: str,
) -> None:
    corrected(history, run)

    def fails(*_: Any, **__: Any) -> None:
        raise dg.Failure("for a moment", allow_retries=False)

    with monkeypatch.context() as broken:
        broken.setattr(module, step, fails)
        assert not run("weekly_reset", key(), raise_on_error=False).success
    assert owed() == [("weekly_reset", key())]
    run(*owed()[0])
    assert winners(client) == [("result", "alice"), ("correction", "bob")]
    assert client.zscore(leaderboard_key(last_monday().date()), "bob") == 9999.0
    assert owed() == []


def test_a_day_whose_statistics_fail_is_asked_for_again(
    connection: Connection,
    history: History,
    run: Run,
    owed: Callable[[], list[tuple[str, str | None]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monday = last_monday()
    history.share("a.w", monday, 5000.0)
    run("hourly_rollup", f"{key()}-00:00")
    run("daily_rollup", key())
    history.share("a.w", monday + timedelta(minutes=2), 9999.0)
    history.late(monday, 1)
    run("hourly_rollup", f"{key()}-00:00")

    def fails(*_: Any) -> None:
        raise dg.Failure("for a moment", allow_retries=False)

    with monkeypatch.context() as broken:
        broken.setattr("tbg_dagster.workers.assets.worker_stats", fails)
        assert not run("daily_rollup", key(), raise_on_error=False).success
    assert ("daily_rollup", key()) in owed()
    run("daily_rollup", key())
    assert ("daily_rollup", key()) not in owed()
    stats = connection.execute("select accepted from worker_stats_daily").fetchall()
    assert stats == [{"accepted": 2}]


def test_a_share_that_comes_between_result_and_news_is_still_owed(
    connection: Connection,
    history: History,
    run: Run,
    owed: Callable[[], list[tuple[str, str | None]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corrected(history, run)

    def late_share_and(*arguments: Any) -> str:
        history.share("carol.w", last_monday() + timedelta(minutes=3), 12345.0)
        history.late(last_monday(), 1)
        return week_module.announce(*arguments)

    monkeypatch.setattr(assets, "announce", late_share_and)
    run("weekly_reset", key())
    monkeypatch.undo()
    run("hourly_rollup", f"{key()}-00:00")
    assert ("weekly_reset", key()) in owed()


def test_a_ranking_that_was_not_published_is_an_error(
    connection: Connection, history: History, run: Run
) -> None:
    history.share("a.x", last_monday(), 5000.0)
    history.share("b.x", last_monday(), 4000.0)
    run("weekly_reset", key())
    assert passed(run("quality", raise_on_error=False), "publications_equal_results")
    for wrong in (
        "update weekly_best_diff set best_difficulty = 5001 where rank = 1",
        "delete from weekly_best_diff where rank = 2",
        "delete from weekly_best_diff",
    ):
        connection.execute(wrong)
        assert not passed(run("quality", raise_on_error=False), "publications_equal_results")


# --- Pictures --------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_strangers_name_stops_no_news(
    connection: Connection, client: Any, history: History, run: Run, name: str
) -> None:
    user, worker = history.worker("stranger.w")
    connection.execute("update users set btc_address = %s where id = %s", [name, user])
    connection.execute("update workers set worker_name = %s where id = %s", [name, worker])
    history.share("stranger.w", last_monday(), 5000.0)
    result = run("weekly_reset", key())
    assert winners(client) == [("result", name)]
    assert "data:image/png" in str(metadata_of(result, "weekly_leaderboard")["picture"])


def test_a_picture_that_cannot_be_drawn_fails_no_run_and_comes_after_the_news(
    client: Any, history: History, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("tbg_dagster.picture.Figure", fails)
    monkeypatch.setattr("tbg_dagster.ledger.pictures.Figure", fails)
    history.share("a.x", last_monday(), 5000.0)
    run("hourly_rollup", f"{key()}-00:00")
    days = run("daily_rollup", key())
    weeks = run("weekly_reset", key())
    assert metadata_of(days, "shares_daily")["difficulties"] == "No picture: MemoryError."
    assert metadata_of(weeks, "weekly_leaderboard")["picture"] == "No picture: MemoryError."
    assert winners(client) == [("result", "a")]


# --- Writers that are behind -----------------------------------------------------------


class Writer:
    """Streams with entries of chosen times, and a writer's positions in them."""

    def __init__(self, connection: Connection, client: Any, consumer: str = "writer") -> None:
        self._connection = connection
        self._client = client
        self._consumer = consumer

    def came(self, moment: datetime, event: str = "share_submitted") -> str:
        """An entry comes to Redis at this time; returns its id."""
        entry = f"{int(moment.timestamp() * 1000)}-0"
        self._client.xadd(stream_of(event), {"event": event, "data": "{}"}, id=entry)
        return entry

    def committed(self, last_id: str, event: str = "share_submitted") -> None:
        self._connection.execute(
            "insert into stream_offsets (consumer, stream, last_id) values (%s, %s, %s) "
            "on conflict (cell, consumer, stream) do update set last_id = excluded.last_id",
            [self._consumer, stream_of(event), last_id],
        )


@pytest.fixture
def writer(connection: Connection, client: Any, clock: Clock, history: History) -> Writer:
    """The week has closed five minutes ago, and a share of it is stored."""
    clock.moment = last_monday(0) + timedelta(minutes=5)
    history.share("a.x", last_monday(), 5000.0)
    return Writer(connection, client)


def test_a_week_waits_for_the_writer_and_is_asked_for_again(
    client: Any, run: Run, writer: Writer, instance: dg.DagsterInstance
) -> None:
    monday = last_monday(0)
    writer.committed(writer.came(monday - timedelta(hours=3)))
    last = writer.came(monday - timedelta(milliseconds=1))
    assert run("weekly_reset", key()).success
    assert told(client) == []
    # Not there: the sensor for missing partitions asks for it.
    assert not instance.get_materialized_partitions(dg.AssetKey("weekly_best_diff"))
    writer.committed(last)
    run("weekly_reset", key())
    (news,) = told(client)
    assert news["complete"] is True


@pytest.mark.parametrize("event", ["new_block_network", "share_best_diff", "hashrate_update"])
def test_every_stream_of_every_writer_is_waited_for(
    connection: Connection, client: Any, run: Run, writer: Writer, event: str
) -> None:
    other = Writer(connection, client, "writer-2")
    first = writer.came(last_monday(0) - timedelta(hours=2), event)
    last = writer.came(last_monday(0) - timedelta(hours=1), event)
    writer.committed(last, event)
    other.committed(first, event)
    run("weekly_reset", key())
    assert told(client) == []
    other.committed(last, event)
    run("weekly_reset", key())
    assert len(told(client)) == 1


def test_idle_streams_and_what_came_after_the_week_keep_nobody_waiting(
    client: Any, run: Run, writer: Writer
) -> None:
    writer.committed("0-0", "block_found")  # empty, and never read
    writer.committed(writer.came(last_monday() + timedelta(days=2)), "share_submitted")
    writer.came(last_monday(0))  # of the new week, and not committed yet
    run("weekly_reset", key())
    (news,) = told(client)
    assert news["complete"] is True


def test_a_writer_that_stays_behind_is_waited_for_so_long_and_then_the_news_say_so(
    client: Any, run: Run, writer: Writer, clock: Clock
) -> None:
    came = last_monday(0) - timedelta(hours=2)
    writer.came(came)
    clock.moment = last_monday(0) + timedelta(hours=6, microseconds=-1)
    run("weekly_reset", key())
    assert told(client) == []
    clock.moment += timedelta(microseconds=1)
    run("weekly_reset", key())
    (news,) = told(client)
    assert news["complete"] is False
    assert news["waiting"] == {
        "late_shares": 0,
        "stream": "mining:share_submitted",
        "since": came.isoformat(),
    }
    # It catches up, and nobody's place changes.
    writer.committed(f"{int(came.timestamp() * 1000)}-0")
    run("weekly_reset", key())
    assert len(told(client)) == 1


def test_how_long_is_a_setting_and_nothing_is_no_wait(
    client: Any, run: Run, writer: Writer, resources: dict[str, Any]
) -> None:
    resources["thresholds"] = Thresholds(week_wait_hours=0)
    writer.came(last_monday(0) - timedelta(hours=2))
    run("weekly_reset", key())
    assert [news["complete"] for news in told(client)] == [False]


# --- The sorted set --------------------------------------------------------------------


def test_a_large_ranking_is_frozen_in_pieces_and_never_seen_in_part(
    client: Any, redis_url: str
) -> None:
    week = last_monday().date()
    board, until = leaderboard_key(week), bounds(week)[1] + timedelta(days=35)
    client.zadd(board, {"old": 1.0})
    sizes: list[int] = []

    class Watched:
        """Sees the set, and how much is sent, at every step."""

        def __getattr__(self, name: str) -> Any:
            assert client.zcard(board) == 1
            return getattr(client, name)

        def zadd(self, name: str, members: dict[str, float]) -> Any:
            assert client.zcard(board) == 1
            sizes.append(len(members))
            return client.zadd(name, members)

    rows: Any = [{"user": f"u{n}", "best_difficulty": float(n)} for n in range(2500)]
    freeze(Watched(), week, rows, until)
    assert sizes == [1000, 1000, 500]
    assert client.zcard(board) == 2500
    assert client.zscore(board, "u2499") == 2499.0
    assert client.expiretime(board) == int(until.timestamp())
    assert client.keys("*") == [board]  # nothing stays beside it
    freeze(client, week, [], until)
    assert client.keys("*") == []
