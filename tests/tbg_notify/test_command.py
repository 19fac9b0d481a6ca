"""``tbg alerts``: what it sends, what it explains, what it mutes."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tbg.cli import main
from tbg_core.outbox import post
from tbg_notify.kinds import KINDS
from tests.tbg_dagster.conftest import Connection, History
from tests.tbg_notify.channels import Mail, Web


@pytest.fixture
def routes(tmp_path: Path, ntfy: Web, smtp: Mail) -> Path:
    """A phone for one user's garage, and a mailbox for everything."""
    path = tmp_path / "alerts.yml"
    path.write_text(
        f"""
routes:
  phone:
    to: ntfy://127.0.0.1:{ntfy.port}/mine
    users: ["bc1qmine"]
    workers: ["garage*"]
    kinds: [worker_offline, block_found]
  mail:
    to: mailto://127.0.0.1:{smtp.port}?smtp=127.0.0.1&from=a@example.org&to=b@example.org&mode=insecure
"""
    )
    return path


def alerts(routes: Path, *arguments: str, database_url: str = "postgresql://x") -> Result:
    return CliRunner().invoke(
        main,
        ["alerts", *arguments],
        env={"ALERTS_FILE": str(routes), "DATABASE_URL": database_url, "REDIS_URL": "redis://x"},
    )


def test_a_test_sends_every_wanted_kind_to_every_route_and_says_so(
    routes: Path, ntfy: Web, smtp: Mail
) -> None:
    result = alerts(routes, "test", "--json")
    assert result.exit_code == 0, result.output
    outcomes = {(one["route"], one["kind"]): one["outcome"] for one in json.loads(result.output)}
    assert set(outcomes) == {(route, kind) for route in ("phone", "mail") for kind in KINDS}
    sent = [kind for (route, kind), what in outcomes.items() if (route, what) == ("phone", "sent")]
    assert sent == ["worker_offline", "block_found"]
    # Every worker breaks its own record a few times: not for everybody's mailbox.
    assert {
        kind for (route, kind), what in outcomes.items() if (route, what) == ("mail", "sent")
    } == (set(KINDS) - {"best_worker"})
    assert [one["title"] for one in ntfy.taken] == [
        "Test: bc1qtest…xxxxxx.\u200bgarage offline",
        "Test: Block 900,000 found",
    ]
    assert len(smtp.taken) == len(KINDS) - 1
    assert all(str(one["subject"]).startswith("Test: ") for one in smtp.taken)


def test_a_test_names_the_channel_that_failed_and_exits_1(
    routes: Path, ntfy: Web, smtp: Mail
) -> None:
    ntfy.status = 503
    result = alerts(routes, "test", "--kind", "block_found")
    assert result.exit_code == 1
    assert "phone: block_found: failed: " in result.output
    assert "503" in result.output
    assert "mail: block_found: sent" in result.output
    assert len(smtp.taken) == 1


def test_a_test_of_one_route_leaves_the_others_alone(routes: Path, ntfy: Web, smtp: Mail) -> None:
    assert alerts(routes, "test", "--route", "phone").exit_code == 0
    assert (len(ntfy.taken), len(smtp.taken)) == (2, 0)
    result = alerts(routes, "test", "--route", "pager")
    assert result.exit_code == 2
    assert "there is no route pager: phone, mail" in result.output


def explained(routes: Path, worker: str, database_url: str) -> dict[tuple[str, str], str]:
    result = alerts(routes, "explain", worker, "--json", database_url=database_url)
    assert result.exit_code == 0, result.output
    return {(one["route"], one["kind"]): one["sent"] for one in json.loads(result.output)}


def test_explain_says_what_is_sent_where_and_why_not(
    routes: Path, connection: Connection, history: History, database_url: str
) -> None:
    history.worker("bc1qmine.garage")
    said = explained(routes, "bc1qmine.garage", database_url)
    assert said["phone", "worker_offline"] == "yes, at once"
    assert said["phone", "block_found"] == "yes, at once"
    assert said["phone", "worker_back"].startswith("no: ")
    assert said["mail", "worker_back"] == "yes, at once"
    other = explained(routes, "bc1qmine.attic", database_url)
    assert other["phone", "worker_offline"].startswith("no: ")
    assert other["mail", "worker_offline"] == "yes, at once"

    # Its limit of the day, on this route alone.
    now = datetime.now(UTC)
    for number in range(6):
        post(connection, "notify:worker_offline", f"k{number}", {})
        connection.execute(
            "insert into alert_deliveries (message_id, route, state, workers, planned_at, due_at) "
            "select id, 'phone', 'sent', '{bc1qmine.garage}', %s, %s from outbox where key = %s",
            [now, now, f"k{number}"],
        )
    said = explained(routes, "bc1qmine.garage", database_url)
    assert said["phone", "worker_offline"] == "no: limit of 6 a day"
    assert said["phone", "block_found"] == "yes, at once"
    assert said["mail", "worker_offline"] == "yes, at once"


def test_explain_shows_the_state_of_the_worker_and_names_one_never_seen(
    routes: Path, connection: Connection, history: History, database_url: str
) -> None:
    _, number = history.worker("bc1qmine.garage")
    connection.execute(
        "update workers set is_online = false, last_share = '2026-11-20 08:05Z' where id = %s",
        [number],
    )
    connection.execute("insert into worker_flaps values (%s, 24, now())", [number])
    result = alerts(routes, "explain", "bc1qmine.garage", database_url=database_url)
    first = result.output.splitlines()[0]
    assert first == (
        "'bc1qmine.garage' is offline, last share 2026-11-20 08:05 UTC; flaps (24 naps in 24 hours)"
    )
    result = alerts(routes, "explain", "bc1qnobody.x", database_url=database_url)
    assert result.output.startswith("'bc1qnobody.x' was never seen")


def test_a_mute_silences_the_worker_until_its_end_and_not_its_blocks(
    routes: Path, connection: Connection, history: History, database_url: str
) -> None:
    history.worker("bc1qmine.garage")
    history.worker("bc1qmine.garage2")
    before = datetime.now(UTC)
    result = alerts(routes, "mute", "bc1qmine.garage", "--until", "8h", database_url=database_url)
    assert result.exit_code == 0, result.output
    row = connection.execute("select worker, all_workers, until from alert_mutes").fetchone()
    assert row is not None
    assert (row["worker"], row["all_workers"]) == ("garage", False)
    assert timedelta(0) <= row["until"] - before - timedelta(hours=8) < timedelta(minutes=10)
    said = explained(routes, "bc1qmine.garage", database_url)
    assert said["phone", "worker_offline"] == "no: muted"
    assert said["phone", "block_found"] == "yes, at once"
    neighbour = explained(routes, "bc1qmine.garage2", database_url)
    assert neighbour["phone", "worker_offline"] == "yes, at once"

    # A later mute of the same worker takes the place of the first; one of the address is wider.
    alerts(routes, "mute", "bc1qmine.garage", "--until", "2099-12-01T08:00", database_url=database_url)  # fmt: skip
    result = alerts(routes, "mute", "bc1qmine", "--all", "--until", "3d", database_url=database_url)
    assert result.exit_code == 0, result.output
    rows = connection.execute(
        "select worker, all_workers from alert_mutes order by all_workers"
    ).fetchall()
    assert [tuple(one.values()) for one in rows] == [("garage", False), ("", True)]
    neighbour = explained(routes, "bc1qmine.garage2", database_url)
    assert neighbour["phone", "worker_offline"] == "no: muted"


@pytest.mark.parametrize(
    ("worker", "until", "says"),
    [
        ("bc1qmine.typo", "8h", "there is no worker 'bc1qmine.typo'"),
        ("bc1qmine.garage", "2020-01-01T00:00", "2020-01-01 00:00 UTC is past"),
        ("bc1qmine.garage", "0h", "is past"),
        ("bc1qmine.garage", "soon", "must look like"),
        ("bc1qmine.garage", "", "must look like"),
        ("bc1qmine.garage", "9999999999d", "is too far away"),
        ("bc1qmine.garage", "0001-01-01T00:00+14:00", "is too far away"),
    ],
)
def test_a_mute_that_cannot_be_is_refused_with_the_reason(
    routes: Path, connection: Connection, history: History, database_url: str,
    worker: str, until: str, says: str,
) -> None:  # fmt: skip
    history.worker("bc1qmine.garage")
    result = alerts(routes, "mute", worker, "--until", until, database_url=database_url)
    assert result.exit_code in (1, 2), result.output
    assert says in result.output
    assert connection.execute("select from alert_mutes").fetchone() is None
