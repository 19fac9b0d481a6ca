"""``tbg verify`` says what a proof proves, fact by fact, and its exit code sums it up."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from tbg.cli import main
from tests.clock import moment_of
from tests.forged import (
    BTC,
    CRAFTED,
    DEFORMED,
    FORGERIES,
    OTHER_USER,
    USER,
    Change,
    crafted,
    forged,
    genuine,
)

Verify = Callable[..., Result]
PREV = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0faa"
FOUND = moment_of(genuine()["timestamp"])
WEEK = genuine()["data"]["week"]
HASH = genuine()["data"]["hash"]


@pytest.fixture
def verify(tmp_path: Path, database_url: str, redis_url: str) -> Verify:
    def run(*arguments: str, offline: bool = False) -> Result:
        urls = {} if offline else {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        return CliRunner().invoke(
            main, ["verify", "--state", str(tmp_path / "state"), *arguments], env=urls
        )

    return run


def fill(database_url: str, data: dict[str, Any], *, proof: bool = True, rank: int = 1) -> None:
    """A week's best of a user, its proof, and the block before it."""
    with psycopg.connect(database_url, autocommit=True) as database:
        row = database.execute(
            "insert into users (btc_address) values (%s) returning id", [data["user"]]
        ).fetchone()
        assert row is not None
        database.execute(
            "insert into weekly_best_diff (user_id, week_start, best_difficulty, "
            "best_share_time, best_share_hash, rank, finalized_at) "
            "values (%s, '2026-11-16', %s, %s, %s, %s, now())",
            [row[0], data["new_best_diff"], FOUND, bytes.fromhex(data["hash"]), rank],
        )
        if proof:
            parts = data["proof"]
            database.execute(
                "insert into share_proofs values (%s, %s, %s, %s, %s, %s, %s)",
                [
                    bytes.fromhex(data["hash"]),
                    row[0],
                    data["new_best_diff"],
                    FOUND,
                    bytes.fromhex(parts["header"]),
                    bytes.fromhex(parts["coinbase"]),
                    bytes.fromhex("".join(parts["branch"])),
                ],
            )
        database.execute(
            "insert into network_blocks (hash, height, network_difficulty, seen_at) "
            "values (%s, 868000, 1, %s) on conflict do nothing",
            [PREV, FOUND - timedelta(minutes=5)],
        )


@pytest.mark.parametrize("arguments", [[HASH], [HASH.upper()], ["--week", WEEK]])
def test_a_best_with_a_genuine_proof_holds(
    verify: Verify, database_url: str, arguments: list[str]
) -> None:
    fill(database_url, genuine()["data"])
    result = verify(*arguments)
    assert result.exit_code == 0, result.output
    lines = [line.split()[:2] for line in result.output.splitlines()[1:]]
    assert lines == [
        ["holds", "hash:"],
        ["holds", "difficulty:"],
        ["holds", "merkle"],
        ["holds", "payee:"],
        ["holds", "signature:"],
        ["holds", "time:"],
        ["holds", "previous"],
    ]


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_proof_in_the_database_fails(verify: Verify, database_url: str, name: str) -> None:
    change, facts = FORGERIES[name]
    data = forged(change)
    fill(database_url, data)
    for arguments in ([data["hash"]], ["--week", WEEK]):
        result = verify(*arguments, "--json")
        assert result.exit_code == 3, result.output
        found = json.loads(result.output)["facts"]
        assert {fact["name"] for fact in found if fact["holds"] is False} == facts


def test_a_proof_that_two_users_claim_holds_for_one_of_them(
    verify: Verify, database_url: str
) -> None:
    data = genuine()["data"]
    fill(database_url, data)
    fill(database_url, {**data, "user": OTHER_USER}, proof=False, rank=2)
    for arguments in ([HASH], ["--week", WEEK]):
        result = verify(*arguments, "--json")
        assert result.exit_code == 3
        mine, stolen = sorted(
            map(json.loads, result.output.splitlines()), key=lambda case: case["rank"]
        )
        assert all(fact["holds"] for fact in mine["facts"])
        assert [fact["name"] for fact in stolen["facts"] if not fact["holds"]] == ["payee"]


def test_a_share_counts_for_one_week_only(verify: Verify, database_url: str) -> None:
    fill(database_url, genuine()["data"])
    with psycopg.connect(database_url, autocommit=True) as database:
        database.execute(
            "insert into weekly_best_diff (user_id, week_start, best_difficulty, "
            "best_share_time, best_share_hash) select user_id, week_start - 7, "
            "best_difficulty, best_share_time, best_share_hash from weekly_best_diff"
        )
    result = verify("--week", WEEK)
    assert result.exit_code == 3
    assert "it counted for the week of 2026-11-09 already" in result.output


def test_a_best_without_a_proof_says_so_and_does_not_hold(
    verify: Verify, database_url: str
) -> None:
    fill(database_url, genuine()["data"], proof=False)
    result = verify(HASH)
    assert (result.exit_code, "no proof came with it" in result.output) == (3, True)


def test_a_block_that_nobody_saw_does_not_hold(verify: Verify, database_url: str) -> None:
    fill(database_url, genuine()["data"])
    with psycopg.connect(database_url, autocommit=True) as database:
        database.execute("update network_blocks set hash = repeat('00', 32)")
        assert "FAILS        previous block" in verify(HASH).output
        database.execute("delete from network_blocks")
    result = verify(HASH)
    assert "not checked  previous block" in result.output
    assert result.exit_code == 3  # our own database should know


def test_what_json_writes_is_what_a_file_holds(
    verify: Verify, database_url: str, tmp_path: Path
) -> None:
    fill(database_url, genuine()["data"])
    path = tmp_path / "proof.json"
    path.write_text(verify(HASH, "--json").output)
    for offline, word in ((False, "holds"), (True, "not checked")):
        result = verify("--file", str(path), offline=offline)
        assert result.exit_code == 0, result.output
        assert f"{word:<11}  previous block" in result.output


@pytest.mark.parametrize("event", ["share_best_diff", "block_found"])
def test_an_event_is_verified_as_it_came(verify: Verify, tmp_path: Path, event: str) -> None:
    path = tmp_path / "event.json"
    path.write_text(json.dumps(genuine(event)))
    assert verify("--file", str(path), offline=True).exit_code == 0


def test_the_pools_signature_is_named_by_who_asks_and_not_by_the_file(
    verify: Verify, tmp_path: Path
) -> None:
    path = tmp_path / "proof.json"
    path.write_text(json.dumps(crafted([(3 * BTC, USER)], signature="/OtherPool/")))
    for arguments, code in (
        ([], 3),
        (["--signature", "/TheBitcoinGame/"], 3),
        (["--signature", "/OtherPool/"], 0),
        (["--signature", "/TheBitcoinGame/, /OtherPool"], 0),
        (["--signature", " , "], 2),
    ):
        result = verify("--file", str(path), *arguments, offline=True)
        assert result.exit_code == code, result.output


@pytest.mark.parametrize("name", CRAFTED)
def test_a_coinbase_that_does_not_pay_the_user_most_fails(
    verify: Verify, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "proof.json"
    path.write_text(CRAFTED[name])
    assert verify("--file", str(path), offline=True).exit_code in (1, 3)


def test_a_workers_name_gives_no_command_to_the_terminal(verify: Verify, tmp_path: Path) -> None:
    data = genuine("share_best_diff")["data"]
    case = {**data, "difficulty": data["new_best_diff"], "worker": "\x1b[2J:bomb:[red]"}
    path = tmp_path / "proof.json"
    path.write_text(json.dumps(case))
    result = verify("--file", str(path), offline=True)
    assert result.exit_code == 0, result.output
    assert ".�[2J:bomb:[red]: " in result.output


def written(path: Path, data: dict[str, Any]) -> Path:
    """A file with a proof as ``tbg verify --json`` writes it."""
    kept = {name: data[name] for name in ("hash", "user", "proof")}
    kept |= {"difficulty": data["new_best_diff"], "signature": "/TheBitcoinGame", "week": WEEK}
    path.write_text(json.dumps({**kept, "time": FOUND.isoformat()}))
    return path


@pytest.mark.parametrize("change", DEFORMED.values(), ids=DEFORMED)
def test_a_file_without_the_form_of_a_proof_is_refused_by_name(
    verify: Verify, tmp_path: Path, change: Change
) -> None:
    path = written(tmp_path / "proof.json", forged(change))
    result = verify("--file", str(path), offline=True)
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {path}: ")


# Values that a claim cannot have.
WRONG: list[dict[str, Any]] = [
    {"user": None},
    {"hash": 1},
    {"difficulty": "1"},
    {"difficulty": float("nan")},
    {"time": "yesterday"},
    {"time": "2026-11-26T00:00:00"},
    {"time": 10**30},
    {"time": []},
    {"week": "2026-W54"},
    {"week": 47},
    {"tag": 1},
    {"signature": 1},
]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "{",
            "[]",
            "1",
            "{}",
            '{"proof": {}}',
            '{"data": {"proof": null}}',
            "\x00",
            "[" * 9000,
        ),
        *(json.dumps({**genuine()["data"], "difficulty": 1, **wrong}) for wrong in WRONG),
    ],
)
def test_a_file_that_holds_no_proof_is_named(verify: Verify, tmp_path: Path, text: str) -> None:
    path = tmp_path / "proof.json"
    path.write_text(text)
    result = verify("--file", str(path), offline=True)
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert str(path) in result.output


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["abc"], 2),
        (["--week", "2026-47"], 2),
        (["--week", "2026-W60"], 2),
        ([HASH, "--week", WEEK], 2),
        (["00" * 32], 1),
        (["--week", "2020-W01"], 1),
    ],
)
def test_what_cannot_be_looked_up_is_named(verify: Verify, arguments: list[str], code: int) -> None:
    assert verify(*arguments).exit_code == code


@pytest.mark.parametrize("digits", [8, 12, 63])
def test_the_end_of_a_hash_is_enough(verify: Verify, database_url: str, digits: int) -> None:
    fill(database_url, genuine()["data"])
    result = verify(HASH[-digits:].upper())
    assert result.exit_code == 0, result.output
    assert HASH in result.output


def test_an_end_that_several_shares_have_is_refused(verify: Verify, database_url: str) -> None:
    data = genuine()["data"]
    fill(database_url, data)
    fill(database_url, {**data, "user": OTHER_USER, "hash": "00" * 20 + HASH[40:]}, proof=False)
    result = verify(HASH[-12:])
    assert result.exit_code == 1
    assert "give more digits" in result.output
    assert verify(HASH).exit_code == 0


def test_an_end_of_no_share_and_one_that_is_too_short_are_named(verify: Verify) -> None:
    assert "nobody claims deadbeefdead" in verify("deadbeefdead").output
    assert "its last ones (8 or more)" in verify("abcdef1").output


def test_a_share_that_is_a_best_and_a_block_is_verified_once(
    verify: Verify, database_url: str
) -> None:
    fill(database_url, genuine()["data"])
    with psycopg.connect(database_url, autocommit=True) as database:
        database.execute("insert into workers (user_id, worker_name) select id, 'rig' from users")
        database.execute(
            "insert into blocks (block_height, block_hash, user_id, worker_id, reward_sats, "
            "difficulty, network_difficulty, coinbase_sig, found_at) "
            "select 868001, %s, u.id, w.id, 1, %s, 1, '/TheBitcoinGame/', %s from users u, workers w",
            [HASH, genuine()["data"]["new_best_diff"], FOUND],
        )
    result = verify(HASH)
    assert result.output.count(f"share {HASH}") == 2
    assert (
        sum(line.split()[1:] == [] or " hash: " in line for line in result.output.splitlines()) == 1
    )
    assert len(verify(HASH, "--json").output.splitlines()) == 2
