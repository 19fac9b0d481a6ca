"""``tbg doctor`` finds what must be done, and works with nothing at all."""

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from tbg import machine
from tbg.cli import main
from tbg.machine import Finding
from tests.tbg.test_ledger import fill
from tests.tbg_core.fake_redis import OLD, fake_redis

GOOD = {
    **{"redis_version": "7.2.4", "redis_mode": "standalone", "role": "master"},
    **{"maxmemory": 0, "maxmemory_policy": "noeviction", "aof_enabled": 1, "cluster_enabled": 0},
}


@pytest.fixture(autouse=True)
def _a_good_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine is like decides no test of the rest."""
    monkeypatch.setattr(machine, "look", lambda *_, **__: [Finding("machine", "good", "good")])


def doctor(folder: Path, *arguments: str, **environment: str | None) -> Result:
    result = CliRunner().invoke(
        main,
        ["doctor", "--state", str(folder), *arguments],
        env={"DATABASE_URL": None, "REDIS_URL": None, "COLUMNS": "200", **environment},
    )
    assert result.exit_code in (0, 1), result.exception
    return result


def findings(result: Result) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    document = json.loads(result.stdout)
    assert document["healthy"] == (result.exit_code == 0)
    for one in document["findings"]:
        assert one.keys() == {"about", "state", "text", "action"}
        assert one["action"] or one["state"] in ("good", "unknown"), one
        found.setdefault(one["about"], []).append(one)
    return found


def test_with_nothing_running_it_looks_at_the_machine_alone(tmp_path: Path) -> None:
    found = findings(doctor(tmp_path, "--json"))
    assert found["servers"][0]["state"] == "unknown"
    assert "run tbg up" in found["servers"][0]["action"]
    shown = doctor(tmp_path)
    assert shown.exit_code == 0
    assert "nothing must be done" in shown.output


def test_good_servers_need_nothing(tmp_path: Path, database_url: str, redis_url: str) -> None:
    result = doctor(tmp_path, "--json", DATABASE_URL=database_url, REDIS_URL=redis_url)
    found = findings(result)
    assert result.exit_code == 0, found
    assert {each["state"] for group in found.values() for each in group} == {"good"}
    assert found["database"][0]["text"].startswith("PostgreSQL ")
    assert "flavour" in found["schema"][0]["text"]
    assert "Valkey" in found["Redis"][0]["text"]
    assert found["books"][0]["text"] == "no unexplained loss"
    assert found["lag"][0]["text"].startswith("0 events")


def test_a_database_without_the_schema_of_this_version_is_bad(
    tmp_path: Path, empty_database_url: str, redis_url: str, database_url: str
) -> None:
    result = doctor(tmp_path, "--json", DATABASE_URL=empty_database_url, REDIS_URL=redis_url)
    assert result.exit_code == 1
    assert findings(result)["schema"] == [
        {"about": "schema", "state": "bad", "text": "there is none", "action": "run tbg migrate"}
    ]
    with psycopg.connect(database_url, autocommit=True) as database:
        [(last,)] = database.execute(
            "delete from _yoyo_migration where migration_id = "
            "(select max(migration_id) from _yoyo_migration) returning migration_id"
        )
    result = doctor(tmp_path, "--json", DATABASE_URL=database_url, REDIS_URL=redis_url)
    (schema,) = findings(result)["schema"]
    assert (schema["state"], schema["action"]) == ("bad", "run tbg migrate")
    assert f"1 migration missing, from {last} on" in schema["text"]


@pytest.mark.parametrize(
    ("info", "said", "action"),
    [
        (OLD, "it is Redis 6.2.14", "upgrade it"),
        ({**GOOD, "role": "slave"}, "it is a replica", "name the primary"),
        ({**GOOD, "cluster_enabled": 1}, "it is a node of a cluster", "set CELL"),
        ({**GOOD, "redis_mode": "sentinel"}, "it is a Sentinel", "redis+sentinel://"),
        ({**GOOD, "aof_enabled": 0}, "no append-only file", "set appendonly yes"),
        (
            {**GOOD, "maxmemory": 1000, "maxmemory_policy": "allkeys-lru"},
            "may evict streams",
            "set maxmemory-policy noeviction",
        ),
        ({**GOOD, "evicted_keys": 3}, "3 keys evicted", "noeviction"),
        ({**GOOD, "maxmemory": 100, "used_memory": 95}, "95% of maxmemory", "raise maxmemory"),
    ],
)
def test_what_is_wrong_with_redis_must_be_done(
    info: dict[str, object], said: str, action: str, tmp_path: Path, empty_database_url: str
) -> None:
    with fake_redis(info) as url:
        result = doctor(tmp_path, "--json", DATABASE_URL=empty_database_url, REDIS_URL=url)
    bad = [one for one in findings(result)["Redis"] if one["state"] == "bad"]
    assert any(said in one["text"] and action in one["action"] for one in bad), bad
    assert result.exit_code == 1


def test_a_redis_that_does_not_say_is_unknown(tmp_path: Path, empty_database_url: str) -> None:
    with fake_redis(None) as url:
        result = doctor(tmp_path, "--json", DATABASE_URL=empty_database_url, REDIS_URL=url)
    assert findings(result)["Redis"][0]["state"] == "unknown"


def test_servers_that_are_away_are_named_without_their_passwords(tmp_path: Path) -> None:
    result = doctor(
        tmp_path,
        "--json",
        DATABASE_URL="postgresql://u:geheim@127.0.0.1:1/tbg",
        REDIS_URL="redis://:geheim@127.0.0.1:1/0",
    )
    found = findings(result)
    assert result.exit_code == 1
    assert "geheim" not in result.output
    assert "does not answer" in found["database"][0]["text"]
    assert found["Redis"][0]["state"] == "bad"


@pytest.mark.parametrize(
    ("variable", "url", "said"),
    [
        ("DATABASE_URL", "mysql://x", "DATABASE_URL must start with postgresql://"),
        ("REDIS_URL", "http://x", "REDIS_URL must start with redis://"),
    ],
)
def test_a_url_that_cannot_work_is_found(
    variable: str, url: str, said: str, tmp_path: Path
) -> None:
    urls: dict[str, str | None] = {
        "DATABASE_URL": "postgresql://127.0.0.1:1/tbg",
        "REDIS_URL": "redis://127.0.0.1:1",
    }
    result = doctor(tmp_path, "--json", **{**urls, variable: url})
    assert said in findings(result)["servers"][0]["text"]
    assert result.exit_code == 1


def test_the_books_are_read(tmp_path: Path, database_url: str, redis_url: str) -> None:
    fill(database_url, "{[5,8)}", 0)
    with psycopg.connect(database_url, autocommit=True) as database:
        database.execute("update engine_instances set last_seen = now() - interval '3 days'")
        database.execute(
            "insert into dead_letters (stage, reason, detail, raw) "
            "values ('receiver', 'not_json', '[bold]no', '{')"
        )
    result = doctor(tmp_path, "--json", DATABASE_URL=database_url, REDIS_URL=redis_url)
    found = findings(result)
    assert result.exit_code == 1
    assert found["books"][0]["text"] == "3 events are missing without explanation"
    assert "1 engine boot is unknown" in found["ends of boots"][0]["text"]
    assert found["ends of boots"][0]["state"] == "warning"
    assert found["dead letters"][0]["text"] == "1 dead letter"
    shown = doctor(tmp_path, DATABASE_URL=database_url, REDIS_URL=redis_url).output
    assert "tbg ledger names them" in shown
    assert "1 thing must be done" in shown
