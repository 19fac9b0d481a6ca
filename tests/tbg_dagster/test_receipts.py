"""Every closed hour has a root, which late events follow and altered rows do not."""

import asyncio
import hashlib
import json
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import dagster as dg
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from psycopg.types.json import Jsonb

from tbg.cli import main
from tbg.migrate import SERVE_ROLE
from tbg_core.periods import from_micros
from tbg_core.receipts import log, stored
from tbg_core.receipts.boot import DoubledError
from tbg_core.receipts.merkle import root_of
from tbg_core.receipts.node import EMPTY
from tbg_core.receipts.receipt import ReceiptError, make
from tbg_dagster import clock as clock_of_batch
from tbg_dagster.archive.day import archive, restore
from tbg_dagster.archive.store import Store
from tbg_dagster.partitions import DAY, HOUR, HOURLY, key_of
from tbg_dagster.receipts.checks import hours_have_roots, roots_rebuild, week_stands_on_its_roots
from tbg_dagster.receipts.publish import publish, rebuild
from tbg_dagster.receipts.rows import GoneError, Rows
from tbg_dagster.resources import Archive
from tbg_dagster.rollup import recompute
from tests.tbg_core.test_receipts import checked
from tests.tbg_dagster.conftest import Connection, History, Run, last_monday, metadata_of
from tests.tbg_serve.harness import Answer, asked

BOOT = "pool/1"


def opened(connection: Connection, name: str = BOOT) -> int:
    """Number of an engine boot."""
    [row] = connection.execute(
        "insert into engine_instances (instance) values (%s) "
        "on conflict (instance) do update set source = excluded.source returning id",
        [name],
    ).fetchall()
    return int(row["id"])


def booked(
    connection: Connection, hour: Any, numbers: Iterable[int], name: str = BOOT, refused: int = 0
) -> None:
    """What the writer keeps of these numbers: the hour's line, and the holes of the boot."""
    boot = opened(connection, name)
    found = sorted(numbers)
    connection.execute(
        "insert into ledger (instance_id, hour, received, first_seq, last_seq, committed, "
        "dead_lettered) values (%s, %s, %s, %s, %s, %s, %s) "
        "on conflict (instance_id, hour) do update set committed = ledger.committed + "
        "excluded.committed, first_seq = least(ledger.first_seq, excluded.first_seq), "
        "last_seq = greatest(ledger.last_seq, excluded.last_seq)",
        [boot, hour, len(found), found[0], found[-1], len(found) - refused, refused],
    )
    connection.execute(
        "with seen as (select int8multirange(int8range(min(first_seq), max(last_seq) + 1)) as upto "
        "from ledger where instance_id = %(id)s), stored as ("
        "select coalesce(range_agg(int8range(seq, seq, '[]')), '{}') as numbers from ("
        "select seq from shares where instance_id = %(id)s union all "
        "select seq from mining_events where instance_id = %(id)s union all "
        "select d.seq from dead_letters d where d.instance = %(name)s) n) "
        "update engine_instances set seq_max = (select upper(upto) - 1 from seen), "
        "seq_missing = (select upto - numbers from seen, stored) where id = %(id)s",
        {"id": boot, "name": name},
    )


def mined(
    history: History, hour: Any, numbers: Iterable[int], worker: str = "alice.rig", name: str = BOOT
) -> None:
    """Shares with these numbers, a second apart."""
    boot = opened(history.connection, name)
    for seq in numbers:
        history.share(
            worker,
            hour + timedelta(seconds=seq % 3600),
            seq=seq,
            instance_id=boot,
            share_hash=seq.to_bytes(32, "big"),
        )


def closed(run: Run, hour: Any, **more: Any) -> dict[str, Any]:
    """Closes the ledger of an hour and publishes its root; what the asset says."""
    key = key_of(HOURLY, hour)
    run("close_ledger", key)
    return metadata_of(run("publish_roots", key, **more), "hour_roots")


def rebuilt(resources: dict[str, Any]) -> dg.AssetCheckResult:
    """What the check of the rows says."""
    check: Any = roots_rebuild
    result = check(resources["database"], resources["archive"])
    assert isinstance(result, dg.AssetCheckResult)
    return result


@pytest.fixture
def hour() -> Any:
    return clock_of_batch.this_hour() - 3 * HOUR


def test_an_hour_gets_a_leaf_for_every_number_and_keeps_its_root(
    connection: Connection, history: History, run: Run, hour: Any
) -> None:
    mined(history, hour, [1, 2, 4, 9])
    connection.execute(
        "insert into mining_events (time, event, payload, seq, instance_id) "
        "values (%s, 'diff_updated', %s, 3, %s)",
        [hour, Jsonb({"user": "alice"}), opened(connection)],
    )
    connection.execute(
        "insert into dead_letters (stage, reason, detail, raw, instance, seq) "
        "values ('receiver', 'bad', '', '', %s, 6)",
        [BOOT],
    )
    connection.execute(
        "insert into ledger_drops values (%s, 'spool/full', '{[7,9)}')", [opened(connection)]
    )
    booked(connection, hour, range(1, 10), refused=1)
    found = closed(run, hour)
    assert (found["entries"], found["leaves"], found["valid_shares"]) == (1, 9, 4)
    [tree] = stored.trees(connection, hour, hour + HOUR)
    assert (tree.first, tree.last) == (1, 9)
    assert tree.stated == ([(6, 7)], [(7, 9)], [(5, 6)])
    assert tree.root.work == 4 * 1000 * 2**96
    again = closed(run, hour)
    assert again["entries"] == 0


def test_what_came_late_makes_a_new_revision_and_the_old_root_stays(
    connection: Connection, history: History, run: Run, hour: Any, client: Any
) -> None:
    mined(history, hour, [1, 2, 4])
    booked(connection, hour, range(1, 5))
    mined(history, hour + HOUR, [5, 6])
    booked(connection, hour + HOUR, [5, 6])
    closed(run, hour)
    closed(run, hour + HOUR)
    before = stored.entries(connection)
    # Number 3 has a time of the next hour: its number decides in which tree it is.
    mined(history, hour + HOUR, [3])
    connection.execute(
        "update ledger set committed = committed + 1, first_seq = 3 where hour = %s", [hour + HOUR]
    )
    connection.execute("update engine_instances set seq_missing = '{}'")
    found = closed(run, hour + HOUR)
    assert (found["entries"], found["revisions"], found["held"]) == (1, 1, "nothing")
    after = stored.entries(connection)
    assert after[:2] == before
    log.check(after)
    assert [(entry.hour, entry.revision) for entry in after[2:]] == [(before[0].hour, 2)]
    [tree, _] = stored.trees(connection, hour, hour + 2 * HOUR)
    assert tree.stated.missing == []
    assert client.xlen("mining:roots") == len(after)


def test_every_number_is_in_exactly_one_tree_across_hours(
    connection: Connection, history: History, run: Run, hour: Any
) -> None:
    # Times run backwards over the full hour: 5 lies in the second hour, 6 in the first.
    for at, numbers in ((hour, [1, 2, 3, 4, 6]), (hour + HOUR, [5, 7, 8])):
        mined(history, at, numbers)
        booked(connection, at, numbers)
    closed(run, hour)
    closed(run, hour + HOUR)
    trees = stored.trees(connection, hour, hour + 2 * HOUR)
    numbers = [seq for tree in trees for seq in range(tree.first, tree.last + 1)]
    assert numbers == list(range(1, 9))
    assert all(tree.stated == ([], [], []) for tree in trees)
    assert sum(tree.root.valid for tree in trees) == 8


def altered(connection: Connection, how: str) -> None:
    """A row of the hour, changed past the books."""
    statement = {
        "changed": "update shares set share_diff = share_diff + 1 where seq = 2",
        "credited to another": "update shares set user_id = (select id from users "
        "where btc_address = 'bob'), worker_id = (select w.id from workers w join users u "
        "on u.id = w.user_id where u.btc_address = 'bob') where seq = 2",
        "removed": "delete from shares where seq = 2",
        "added": "insert into shares select * from shares where seq = 2",
        "swapped": "update shares set seq = 5 - seq where seq in (2, 3)",
        "made invalid": "update shares set is_valid = false, reject_reason = 'stale' where seq = 2",
        "renamed": "update users set btc_address = 'mallory' where btc_address = 'alice'",
        "an event": 'update mining_events set payload = \'{"user": "bob"}\'',
    }[how]
    assert connection.execute(statement).rowcount


ALTERED = [
    "changed", "credited to another", "removed", "added", "swapped", "made invalid", "renamed",
    "an event",
]  # fmt: skip


@pytest.fixture
def published(connection: Connection, history: History, run: Run, hour: Any) -> Any:
    """An hour with four shares and an event, and its root."""
    history.worker("bob.rig")
    mined(history, hour, [1, 2, 3, 4])
    connection.execute(
        "insert into mining_events (time, event, payload, seq, instance_id) "
        "values (%s, 'diff_updated', '{\"user\": \"alice\"}', 5, %s)",
        [hour, opened(connection)],
    )
    booked(connection, hour, range(1, 6))
    closed(run, hour)
    return hour


@pytest.mark.parametrize("how", ALTERED)
def test_an_altered_row_of_a_closed_hour_turns_the_check_red_and_gives_no_receipt(
    connection: Connection, resources: dict[str, Any], published: Any, how: str
) -> None:
    assert rebuilt(resources).passed
    altered(connection, how)
    result = rebuilt(resources)
    assert not result.passed
    assert f"{published:%F %H:%M}" in str(result.description)
    if how not in ("renamed", "credited to another"):
        rows = Rows(connection, None)
        with pytest.raises((ReceiptError, DoubledError)):
            make(connection, rows, "alice", published, published + HOUR)


@pytest.mark.plain_postgresql  # the command has a connection of its own
def test_an_altered_row_gets_no_new_revision_before_a_person_says_why(
    connection: Connection, run: Run, published: Any, database_url: str
) -> None:
    altered(connection, "made invalid")
    connection.execute("update ledger set committed = committed + 1")
    run("close_ledger", key_of(HOURLY, published))
    found = run("publish_roots", key_of(HOURLY, published), raise_on_error=False)
    assert "gives the root" not in str(found)
    assert len(stored.entries(connection)) == 1
    environment = {"DATABASE_URL": database_url}
    first, last = f"{published - HOUR:%FT%H}", f"{published:%FT%H}"
    words = ["receipts", "amend", last, "--to", first, "--reason", "a forged share"]
    assert CliRunner().invoke(main, words, env=environment).exit_code == 2
    words = ["receipts", "amend", first, "--to", last, "--reason", "a forged share"]
    done = CliRunner().invoke(main, words, env=environment)
    assert done.exit_code == 0, done.output
    old, empty, new = stored.entries(connection)
    assert (from_micros(empty.hour), empty.boots) == (published - HOUR, 0)
    assert (new.revision, new.reason, new.previous) == (2, "a forged share", empty.hash)
    assert new.root.valid == old.root.valid - 1
    again = CliRunner().invoke(main, words, env=environment)
    assert again.exit_code == 0
    assert len(stored.entries(connection)) == 3


def test_an_hour_without_events_has_a_root_and_a_closed_one_without_a_root_is_named(
    connection: Connection, history: History, run: Run, resources: dict[str, Any], hour: Any
) -> None:
    closed(run, hour - HOUR)
    [entry] = stored.entries(connection)
    assert (entry.boots, entry.root) == (0, EMPTY)
    mined(history, hour, [1])
    booked(connection, hour, [1])
    run("close_ledger", key_of(HOURLY, hour))
    check: Any = hours_have_roots
    assert check(resources["database"], resources["archive"]).passed  # an hour to make it
    connection.execute("update share_ledger set closed_at = now() - interval '2 hours'")
    result = check(resources["database"], resources["archive"])
    assert not result.passed
    assert BOOT in str(result.description)


def test_a_log_that_was_changed_is_red(
    connection: Connection, resources: dict[str, Any], published: Any
) -> None:
    connection.execute("update receipt_roots set valid = valid + 1")
    assert "log of roots" in str(rebuilt(resources).description)


def test_two_boots_of_an_hour_have_one_root_and_numbers_of_their_own(
    connection: Connection, history: History, run: Run, hour: Any
) -> None:
    for boot in ("pool/2", "pool/10"):
        mined(history, hour, [1, 2, 3], name=boot)
        booked(connection, hour, [1, 2, 3], name=boot)
    closed(run, hour)
    [entry] = stored.entries(connection)
    assert (entry.boots, entry.root.valid) == (2, 6)
    assert [tree.instance for tree in stored.trees(connection, hour, hour + HOUR)] == [
        "pool/10",
        "pool/2",
    ]


def test_a_number_with_two_rows_keeps_its_boot_from_a_root_and_no_other(
    connection: Connection, history: History, run: Run, hour: Any
) -> None:
    for boot in ("pool/1", "pool/2"):
        mined(history, hour, [1, 2], name=boot)
        booked(connection, hour, [1, 2], name=boot)
    connection.execute(
        "insert into shares select * from shares where seq = 2 and instance_id = %s",
        [opened(connection, "pool/1")],
    )
    found = closed(run, hour)
    assert "pool/1: number 2 has two rows" in found["held"]
    assert [tree.instance for tree in stored.trees(connection, hour, hour + HOUR)] == ["pool/2"]


def test_a_day_that_was_archived_and_dropped_gives_the_same_roots_and_receipts(
    connection: Connection, history: History, run: Run, resources: dict[str, Any], tmp_path: Path
) -> None:
    day = clock_of_batch.today() - 30 * DAY
    hours = [day + number * HOUR for number in (0, 7, 23)]
    first = 1
    for at in hours:
        mined(history, at, range(first, first + 5))
        mined(history, at, range(first + 6, first + 9), "bob.rig")
        booked(connection, at, range(first, first + 9))
        first += 9
        closed(run, at)
    connection.execute(
        "insert into mining_events (time, event, payload, seq, instance_id) "
        "values (%s, 'diff_updated', '{\"a\": [1.50, \"é\"]}', 28, %s)",
        [hours[-1], opened(connection)],
    )
    booked(connection, hours[-1], [28])
    closed(run, hours[-1])
    store = Store.open(str(tmp_path / "archive"))
    resources["archive"] = Archive(url=str(tmp_path / "archive"))
    archive(connection, store, day.date())
    before = make(connection, Rows(connection, store), "alice", day, day + DAY)
    assert before["valid"] == 15
    roots = stored.entries(connection)
    history.drop(day)
    assert not Rows(connection, None).elsewhere(connection, day, day + DAY)
    rows = Rows(connection, store)
    elsewhere = rows.elsewhere(connection, day, day + DAY)
    assert elsewhere == {day.date()}
    found = make(connection, rows, "alice", day, day + DAY, elsewhere=elsewhere)
    assert found == before
    for tree in stored.trees(connection, day, day + DAY):
        with connection.transaction():
            rebuild(connection, rows, tree)
        with pytest.raises(GoneError):
            rebuild(connection, Rows(connection, None), tree)
    restore(connection, store, day.date(), DAY)
    assert make(connection, Rows(connection, None), "alice", day, day + DAY) == before
    # Made from the archive alone, the trees are the same.
    history.drop(day)
    connection.execute("delete from receipt_trees")
    connection.execute("delete from receipt_roots")
    publish(connection, Rows(connection, store), day, day)
    assert stored.entries(connection) == []
    publish(connection, Rows(connection, store), day, clock_of_batch.this_hour())
    again = {entry.hour: entry.root for entry in stored.entries(connection)}
    assert {entry.hour: entry.root for entry in roots}.items() <= again.items()


def test_a_receipt_of_a_dropped_day_is_refused_where_no_archive_is_read(
    connection: Connection, history: History, run: Run, tmp_path: Path
) -> None:
    day = clock_of_batch.today() - 30 * DAY
    mined(history, day, range(1, 6))
    booked(connection, day, range(1, 6))
    closed(run, day)
    recompute(connection, day, day + HOUR)
    store = Store.open(str(tmp_path / "archive"))
    archive(connection, store, day.date())
    before = make(connection, Rows(connection, None), "alice", day, day + DAY)
    history.drop(day)
    # A share that came late does not make the day whole.
    history.share("alice.rig", day + timedelta(minutes=30))
    for start, end in ((day, day + DAY), (day + timedelta(minutes=59), day + HOUR + DAY)):
        with pytest.raises(ReceiptError, match=f"dropped 4 shares of {day:%F}.*archive"):
            make(connection, Rows(connection, None), "alice", start, end)
    assert not make(connection, Rows(connection, None), "bob", day, day + DAY)["hours"]
    rows = Rows(connection, store)
    elsewhere = rows.elsewhere(connection, day, day + DAY)
    found = make(connection, rows, "alice", day, day + DAY, elsewhere=elsewhere)
    assert found["hours"] == before["hours"]


@pytest.mark.plain_postgresql  # the role has a connection of its own
def test_the_role_of_tbg_serve_gives_a_receipt_in_which_no_address_can_be_guessed(
    connection: Connection,
    history: History,
    published: Any,
    database_url: str,
    redis_url: str,
    tmp_path: Path,
) -> None:
    # The leaf of an event is the same whatever address it came from.
    connection.execute('update mining_events set payload = payload || \'{"ip": "203.0.113.77"}\'')
    role = f"{SERVE_ROLE}_of_receipts"
    if not connection.execute("select from pg_roles where rolname = %s", [role]).fetchall():
        connection.execute(f"create role {role} login password 'secret'")
    connection.execute("select grant_serving(%s)", [role])
    parts = urlsplit(database_url)
    place = parts.netloc.rpartition("@")[2]
    url = urlunsplit(parts._replace(netloc=f"{role}:secret@{place}"))
    path = f"/v1/receipts/alice?from={published:%FT%TZ}&to={published + HOUR:%FT%TZ}"

    async def answers() -> list[Answer]:
        async with asked(url, redis_url) as client:
            return [await client.get(one) for one in (path, "/v1/roots")]

    receipt, roots = asyncio.run(answers())
    assert (receipt.status, roots.status) == (200, 200), receipt.text
    (tmp_path / "receipt.json.gz").write_bytes(receipt.body)
    (tmp_path / "roots.jsonl").write_bytes(roots.body)
    done = checked(tmp_path / "receipt.json.gz", tmp_path / "roots.jsonl")
    assert "alice: 4 valid shares of 4" in done.stdout, done.stderr
    recompute(connection, published, published + HOUR)
    history.drop(published.replace(hour=0))
    refused, _ = asyncio.run(answers())
    assert refused.status == 404
    assert "archive" in refused.json["reason"]


def test_the_digest_of_an_event_is_that_of_the_page(connection: Connection) -> None:
    def digest(event: str, source: str, data: str) -> bytes:
        [row] = connection.execute(
            "select event_digest(%s, %s, %s) as found", [event, source, Jsonb(json.loads(data))]
        )
        return bytes(row["found"])

    texts = ("miner_connected", "hosted", '{"user": "ä", "worker": ""}')
    raw = [text.encode() for text in texts]
    page = b"".join(len(one).to_bytes(4, "big") + one for one in raw)
    assert digest(*texts) == hashlib.sha256(page).digest()
    assert digest(*texts) == digest(*texts[:2], '{"user": "ä", "worker": "", "ip": "::1"}')
    assert digest("ab", "c", "{}") != digest("a", "bc", "{}")


def test_shares_without_a_number_are_counted_beside_the_receipt(
    connection: Connection, history: History, published: Any
) -> None:
    history.share("alice.rig", published + timedelta(minutes=1))
    mined(history, published + HOUR, [9])
    made = make(connection, Rows(connection, None), "alice", published, published + 2 * HOUR)
    assert (made["shares"], made["valid"]) == (4, 4)
    assert made["without"]["unnumbered"] == 1
    assert made["without"]["without_root"] == 1


@pytest.mark.plain_postgresql  # the command has a connection of its own
def test_a_receipt_of_the_command_is_checked_by_the_page_against_the_published_roots(
    connection: Connection, run: Run, published: Any, database_url: str, tmp_path: Path
) -> None:
    environment = {"DATABASE_URL": database_url}
    folder, file = tmp_path / "roots", tmp_path / "receipt.json.gz"

    def tbg(*words: str) -> Any:
        return CliRunner().invoke(main, list(words), env=environment)

    span = ["--from", f"{published:%FT%H}", "--to", f"{published + HOUR:%FT%H:%M}"]
    words = ["receipt", "--user", "alice", *span, "--output", str(file), "--json"]
    done = tbg(*words)
    assert done.exit_code == 0, done.output
    said = json.loads(done.output)
    assert (said["shares"], said["bytes"]) == (4, file.stat().st_size)
    told = tbg("receipts", "publish", str(folder))
    assert told.exit_code == 0, told.output
    assert checked(file, folder / "roots.jsonl").returncode == 0
    # A root that was published elsewhere is not that of the rows any more.
    altered(connection, "made invalid")
    connection.execute("delete from receipt_trees")
    connection.execute("delete from receipt_roots")
    run("publish_roots", key_of(HOURLY, published))
    assert tbg(*words).exit_code == 0
    answer = checked(file, folder / "roots.jsonl")
    assert answer.returncode == 1
    refused = tbg("receipts", "publish", str(folder))
    assert refused.exit_code == 3
    assert "nothing was written" in refused.output


@pytest.mark.plain_postgresql  # the command has a connection of its own
def test_a_published_folder_only_grows_and_a_key_signs_its_head(
    connection: Connection, run: Run, published: Any, database_url: str, tmp_path: Path
) -> None:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "pool.pem").write_bytes(pem)
    folder = tmp_path / "roots"

    def told(*more: str) -> Any:
        words = ["receipts", "publish", str(folder), "--json", *more]
        return CliRunner().invoke(main, words, env={"DATABASE_URL": database_url})

    assert json.loads(told("--key", str(tmp_path / "pool.pem")).output)["added"] == 1
    first = (folder / "roots.jsonl").read_text()
    key.public_key().verify(
        (folder / "head.json.sig").read_bytes(), (folder / "head.json").read_bytes()
    )
    closed(run, published + HOUR)
    head = json.loads(told().output)
    assert (head["size"], head["added"]) == (2, 1)
    assert (folder / "roots.jsonl").read_text().startswith(first)
    hashes = stored.hashes(connection)
    assert head["root"] == root_of(hashes).hex()
    (tmp_path / "pool.pem").write_text("no key")
    assert told("--key", str(tmp_path / "pool.pem")).exit_code == 1


def test_a_week_is_built_again_before_its_result_which_names_its_roots(
    connection: Connection,
    history: History,
    run: Run,
    resources: dict[str, Any],
    client: Any,
) -> None:
    monday = last_monday()
    for number, at in enumerate((monday, monday + 50 * HOUR)):
        mined(history, at, range(1 + 3 * number, 4 + 3 * number))
        booked(connection, at, range(1 + 3 * number, 4 + 3 * number))
        closed(run, at)
    check: Any = week_stands_on_its_roots
    assert check(resources["database"], resources["archive"]).passed
    altered(connection, "changed")
    result = check(resources["database"], resources["archive"])
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert f"{monday:%F %H:%M}" in str(result.description)
    # It is told all the same, and the check of the roots stays red until a person says why.
    run("weekly_reset", f"{monday:%F}")
    [(_, message)] = client.xrange("mining:weekly_reset")
    entries = stored.entries(connection)
    assert json.loads(message["data"])["roots"] == {
        "hours": 2,
        "first": 0,
        "last": 1,
        "hash": entries[1].hash.hex(),
    }
    assert f"{monday:%F %H:%M}" in str(rebuilt(resources).description)


def test_an_engine_boot_that_lost_everything_at_its_end_has_leaves_for_that(
    connection: Connection, history: History, run: Run, hour: Any
) -> None:
    mined(history, hour, [1, 2])
    booked(connection, hour, [1, 2])
    closed(run, hour)
    connection.execute("update engine_instances set seq_declared = 1000000, state = 'crashed'")
    closed(run, hour)
    [tree] = stored.trees(connection, hour, hour + HOUR)
    assert (tree.revision, tree.last) == (2, 1_000_000)
    assert tree.stated.missing == [(3, 1_000_001)]
