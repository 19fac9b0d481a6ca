"""docs/servers.md says what the code does: its options, its refusals, its rights."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import redis

from tbg.stack.embedded import EmbeddedValkey
from tbg_core.database_url import DatabaseUrlError, for_asyncpg, read
from tbg_core.names import leaderboard_key, week_start
from tbg_core.outbox import add_once
from tbg_dagster.weekly.week import freeze
from tests.processes import ROOT
from tests.tbg.command import tbg
from tests.tbg_core import test_database
from tests.tbg_core.test_redis_server import PAGE, rights


def table(title: str) -> dict[str, str]:
    """The rows of the first table under a heading."""
    part = PAGE.partition(f"{title}\n")[2]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", part.partition("\n\n#")[0], re.MULTILINE)
    return {first: second for first, second in rows if first != "---"}


def test_every_option_of_libpq_stands_on_the_page_as_it_is_treated() -> None:
    rows = table("### Options of DATABASE_URL")
    treated = {name: text for row, text in rows.items() for name in re.findall(r"`(\w+)`", row)}
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    assert known <= treated.keys()
    values = {"connect_timeout": "3", "port": "5432", "target_session_attrs": "any"}
    files = {"sslcert", "sslkey", "sslrootcert", "sslcrl"}
    for name in known:
        value = values.get(name, "/dev/null" if name in files else "x")
        url = f"postgresql://h/tbg?{name}={value}"
        if treated[name].startswith("refused"):
            with pytest.raises(DatabaseUrlError, match=name):
                read(url)
            continue
        arguments = for_asyncpg(read(url))
        used = name in str(arguments["dsn"]) or value in map(str, arguments.values())
        used = used or name in ("host", "hostaddr", "port", "connect_timeout", "options")
        assert used == treated[name].startswith("both drivers"), name


def test_every_refusal_of_a_database_on_the_page_has_a_test() -> None:
    rows = table("## PostgreSQL")
    tests = {
        "a server older than 15": "test_a_server_that_is_too_old_is_refused",
        "an encoding other than UTF8": "test_a_database_that_lacks_letters_is_refused",
        "a replica": "test_a_replica_is_refused_and_the_primary_beside_it_is_found",
        "`default_transaction_read_only = on`": "test_a_server_that_takes_no_writes_is_refused",
        "a pooler in transaction mode": "test_a_pooler_that_shares_sessions_is_refused",
        "a pooler in statement mode": "test_a_pooler_that_shares_sessions_is_refused",
    }
    del rows["what it is"]
    options = table("### Options of DATABASE_URL")
    assert rows.keys() - options.keys() == tests.keys()
    for name in tests.values():
        assert callable(getattr(test_database, name))


def test_the_rights_of_the_page_are_enough_for_the_batch_side(
    valkey_server: Callable[..., EmbeddedValkey],
) -> None:
    server = valkey_server()
    words, url = rights("batch", server)
    week = week_start(datetime.now(UTC))
    rows: list[Any] = [{"user": "bc1q", "best_difficulty": 5.0}]
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command(*words)
        with redis.Redis.from_url(url, decode_responses=True) as client:
            first = add_once(client, "mining:alerts", "1", "test", 1, {"a": 1})
            assert add_once(client, "mining:alerts", "1", "test", 1, {"a": 1}) == first
            freeze(client, week, rows, datetime.now(UTC) + timedelta(days=1))
            assert client.zrange(leaderboard_key(week), 0, -1) == ["bc1q"]
            assert client.xrange("mining:share_submitted", min="(0-0", count=1) == []
            freeze(client, week, [], datetime.now(UTC) + timedelta(days=1))
        denied: Any = admin.execute_command("ACL", "LOG")
    assert denied == []


def test_the_rights_of_the_page_are_enough_for_status(
    valkey_server: Callable[..., EmbeddedValkey], database_url: str
) -> None:
    server = valkey_server()
    words, url = rights("watcher", server)
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command(*words)
        admin.xadd("mining:share_submitted", {"event": "share_submitted"})
        done = tbg("status", "--json", DATABASE_URL=database_url, REDIS_URL=url)
        denied: Any = admin.execute_command("ACL", "LOG")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["events"]["share_submitted"]["in_stream"] == 1
    assert denied == []


def test_people_find_the_page() -> None:
    for page in ("README.md", "docs/operations.md", "docs/compose.md"):
        assert "servers.md" in (ROOT / page).read_text(), page
