"""No week is published whose first ten have a proof of work that fails."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner

from tbg.cli import main
from tbg_core.names import WEEKLY_RESET_STREAM
from tbg_dagster.resources import BitcoinNode, Thresholds
from tbg_dagster.weekly import proof_checks
from tests.clock import Clock, moment_of
from tests.forged import FORGERIES, OTHER_USER, forged, genuine
from tests.tbg_dagster.conftest import Connection, History, Run
from tests.tbg_dagster.test_blocks import node, result

PREV = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0faa"
NEXT = "0e" * 32
FOUND = moment_of(genuine()["timestamp"])
KEY = "2026-11-16"  # the Monday of the golden proof


@pytest.fixture(autouse=True)
def closed(clock: Clock) -> None:
    """The week of the golden proof has closed."""
    clock.moment = FOUND + timedelta(days=6)


def claim(history: History, data: dict[str, Any], *, proof: bool = True) -> None:
    """A user's share of the week, as the writer leaves it."""
    history.share(
        f"{data['user']}.rig",
        FOUND,
        data["new_best_diff"],
        share_hash=bytes.fromhex(data["hash"]),
    )
    if proof:
        parts = data["proof"]
        history.connection.execute(
            "insert into share_proofs values (%s, %s, %s, %s, %s, %s, %s)",
            [
                bytes.fromhex(data["hash"]),
                history.worker(f"{data['user']}.rig")[0],
                data["new_best_diff"],
                FOUND,
                bytes.fromhex(parts["header"]),
                bytes.fromhex(parts["coinbase"]),
                bytes.fromhex("".join(parts["branch"])),
            ],
        )


def told(client: Any) -> list[dict[str, Any]]:
    """What readers of the weekly news were told."""
    return [json.loads(entry["data"]) for _, entry in client.xrange(WEEKLY_RESET_STREAM)]


def found_by(result: dg.ExecuteInProcessResult) -> tuple[bool, str]:
    """The verdict on the proofs."""
    (item,) = [
        item
        for item in result.get_asset_check_evaluations()
        if item.check_name == "winners_are_proven"
    ]
    return item.passed, item.description or ""


def test_a_proven_winner_is_published_as_proven(client: Any, history: History, run: Run) -> None:
    claim(history, genuine()["data"])
    history.share("b.x", FOUND, genuine()["data"]["new_best_diff"] / 2)
    passed, text = found_by(run("weekly_reset", KEY))
    assert passed
    assert text == f"1 of 2 bests proven; 1 without a proof: {KEY} rank 2 (b)"
    (news,) = told(client)
    assert news["proven"] is True
    assert [row["proven"] for row in news["top"]] == [True, False]
    assert news["winner"] == news["top"][0]


def test_a_winner_without_a_proof_is_published_and_says_so(
    client: Any, history: History, run: Run
) -> None:
    claim(history, genuine()["data"], proof=False)
    passed, text = found_by(run("weekly_reset", KEY))
    assert (passed, "1 without a proof" in text) == (True, True)
    (news,) = told(client)
    assert (news["proven"], news["winner"]["proven"]) == (False, False)


@pytest.mark.parametrize("name", ["other coinbase", "other address", "swapped branch"])
def test_a_week_whose_winners_proof_fails_is_not_published(
    client: Any, history: History, run: Run, name: str
) -> None:
    claim(history, forged(FORGERIES[name][0]))
    result = run("weekly_reset", KEY, raise_on_error=False)
    assert not result.success
    passed, text = found_by(result)
    assert (passed, "1 with a proof that fails" in text) == (False, True)
    assert told(client) == []


def test_a_proof_claimed_by_a_second_user_keeps_the_week_back(
    client: Any, history: History, run: Run
) -> None:
    data = genuine()["data"]
    claim(history, data)
    claim(history, {**data, "user": OTHER_USER}, proof=False)
    result = run("weekly_reset", KEY, raise_on_error=False)
    passed, text = found_by(result)
    assert (passed, f"rank 2 ({OTHER_USER}): payee" in text) == (False, True)
    assert told(client) == []


def test_a_run_without_the_check_does_not_publish_either(
    connection: Connection, history: History, run: Run
) -> None:
    claim(history, forged(FORGERIES["other address"][0]))
    run("weekly_reset", KEY, raise_on_error=False)
    with pytest.raises(dg.Failure, match=f"week {KEY} is not published: rank 1"):
        proof_checks.publishable(connection, date.fromisoformat(KEY), Thresholds())


def test_another_signature_is_a_setting(connection: Connection, history: History, run: Run) -> None:
    claim(history, genuine()["data"])
    run("weekly_reset", KEY)
    week = date.fromisoformat(KEY)
    assert proof_checks.publishable(
        connection, week, Thresholds(coinbase_signature="/TheBitcoinGame/")
    )
    with pytest.raises(dg.Failure, match="the coinbase lacks /Another/"):
        proof_checks.publishable(connection, week, Thresholds(coinbase_signature="/Another/"))


# --- Blocks that the pool did not see ---------------------------------------------------


def saw(connection: Connection, *blocks: tuple[str, int, datetime]) -> None:
    """Tips that the pool's engines saw: hash, height and when."""
    for block_hash, height, seen in blocks:
        connection.execute(
            "insert into network_blocks (hash, height, network_difficulty, seen_at) "
            "values (%s, %s, 1, %s)",
            [block_hash, height, seen],
        )


@contextmanager
def bitcoin(
    blocks: dict[str, tuple[int, datetime]], *, downloading: bool = False
) -> Iterator[BitcoinNode]:
    """A node that has these blocks: hash → height and time; the highest is its tip."""
    heights = {height: block_hash for block_hash, (height, _) in blocks.items()}
    tip = max(heights, default=0)

    def header(block_hash: str) -> dict[str, Any]:
        if block_hash not in blocks:
            return {"result": None, "error": {"code": -5, "message": "Block not found"}}
        height, moment = blocks[block_hash]
        return result(
            {
                "hash": block_hash,
                "height": height,
                "confirmations": tip - height + 1,
                "time": int(moment.timestamp()),
            }
        )

    answers = {
        "getblockheader": header,
        "getblockhash": lambda height: result(heights[height]),
        "getblockcount": result(tip),
        "getblockchaininfo": result(
            {"initialblockdownload": downloading, "blocks": tip, "headers": tip}
        ),
    }
    with node(answers) as url:
        yield BitcoinNode(url=url, retries=0, timeout_seconds=5)


def test_a_lost_message_about_a_block_keeps_no_week_back_while_no_node_answers(
    connection: Connection, client: Any, history: History, run: Run
) -> None:
    claim(history, genuine()["data"])
    saw(connection, ("ab" * 32, 867_999, FOUND - timedelta(minutes=20)))
    assert found_by(run("weekly_reset", KEY))[0]
    assert [news["proven"] for news in told(client)] == [True]


@pytest.mark.parametrize(
    ("blocks", "downloading", "published"),
    [
        ({PREV: (868_000, FOUND - timedelta(minutes=5))}, False, True),
        (
            {
                PREV: (868_000, FOUND - timedelta(minutes=5)),
                NEXT: (868_001, FOUND + timedelta(minutes=5)),
            },
            False,
            True,
        ),
        # Its block is of long before the week.
        (
            {
                PREV: (868_000, FOUND - timedelta(days=30)),
                NEXT: (868_001, FOUND - timedelta(days=30)),
            },
            False,
            False,
        ),
        # Nobody has ever heard of its block.
        ({NEXT: (868_001, FOUND)}, False, False),
        ({NEXT: (868_001, FOUND)}, True, True),  # the node has yet to fetch blocks
    ],
)
def test_the_node_is_asked_for_a_block_that_the_pool_did_not_see(
    connection: Connection,
    client: Any,
    history: History,
    run: Run,
    resources: dict[str, Any],
    blocks: dict[str, tuple[int, datetime]],
    downloading: bool,
    published: bool,
) -> None:
    claim(history, genuine()["data"])
    saw(connection, ("ab" * 32, 867_999, FOUND - timedelta(minutes=20)))
    with bitcoin(blocks, downloading=downloading) as resources["bitcoin_node"]:
        done = run("weekly_reset", KEY, raise_on_error=False)
    assert (found_by(done)[0], len(told(client))) == (published, int(published))


def test_a_lost_message_about_the_next_block_leaves_the_old_tip_no_longer_than_the_one_after(
    connection: Connection,
) -> None:
    saw(
        connection,
        ("aa" * 32, 100, FOUND),
        ("cc" * 32, 102, FOUND + timedelta(minutes=20)),
        ("dd" * 32, 102, FOUND + timedelta(minutes=25)),
        ("ee" * 32, 101, FOUND - timedelta(days=9)),  # of a chain that was thrown away
    )
    row = connection.execute("select replaced_at from network_tips where height = 100").fetchone()
    assert row == {"replaced_at": FOUND + timedelta(minutes=20)}


# --- What a person decides --------------------------------------------------------------


def test_a_renamed_pool_names_both_signatures(
    client: Any, history: History, run: Run, resources: dict[str, Any]
) -> None:
    claim(history, genuine()["data"])
    resources["thresholds"] = Thresholds(coinbase_signature="/NewName/")
    assert not run("weekly_reset", KEY, raise_on_error=False).success
    resources["thresholds"] = Thresholds(coinbase_signature="/NewName/, /TheBitcoinGame")
    run("weekly_reset", KEY)
    assert [news["proven"] for news in told(client)] == [True]


@pytest.mark.parametrize(("decision", "published"), [("keep", True), (None, False)])
def test_an_hour_of_a_wrong_clock_that_a_person_keeps_is_judged_by_its_header(
    connection: Connection,
    client: Any,
    history: History,
    run: Run,
    decision: str | None,
    published: bool,
) -> None:
    wrong = FOUND + timedelta(hours=5)
    data = genuine()["data"]
    claim(history, data)
    history.days(wrong, wrong)
    connection.execute("update shares set time = %s", [wrong])
    connection.execute("update share_proofs set found_at = %s", [wrong])
    connection.execute(
        "insert into skewed_hours (hour, instance_id, kind, decision) "
        "values (date_trunc('hour', %s::timestamptz, 'UTC'), 7, 'ahead', %s)",
        [wrong, decision],
    )
    run("weekly_reset", KEY, raise_on_error=False)
    assert len(told(client)) == int(published)


def released(database_url: str, tmp_path: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(
        main,
        ["release", "--state", str(tmp_path / "state"), *arguments],
        env={"DATABASE_URL": database_url},
    )
    return done.exit_code, done.output


def test_a_person_releases_a_week_on_record_and_for_these_shares_alone(
    connection: Connection,
    client: Any,
    history: History,
    run: Run,
    database_url: str,
    tmp_path: Path,
) -> None:
    claim(history, forged(FORGERIES["swapped branch"][0]))
    by = ("--by", "alice", "--reason", "the branch was turned round by hand")
    assert released(database_url, tmp_path, "2026-W47", *by)[0] == 1  # no result yet
    assert not run("weekly_reset", KEY, raise_on_error=False).success
    code, output = released(database_url, tmp_path, "2026-W47", *by)
    assert (code, "merkle root" in output) == (0, True)
    assert released(database_url, tmp_path, "2026-W47", *by)[0] == 1  # nothing more fails

    passed, text = found_by(run("weekly_reset", KEY))
    assert (passed, "1 with a proof that fails, released" in text) == (True, True)
    (news,) = told(client)
    assert (news["proven"], news["winner"]["proven"]) == (False, False)
    (said,) = news["released"]
    assert (said["rank"], said["by"], said["reason"]) == (1, "alice", by[3])
    row = connection.execute("select failure, released_by from week_releases").fetchone()
    assert row is not None
    assert ("merkle root" in row["failure"], row["released_by"]) == (True, "alice")

    # A later share with another proof that fails is not among them.
    stolen = {**genuine()["data"], "user": OTHER_USER, "hash": "ef" * 32}
    claim(history, stolen)
    assert not run("weekly_reset", KEY, raise_on_error=False).success
    assert len(told(client)) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["2026-W47"],
        ["2026-W47", "--by", "alice"],
        ["2026-W47", "--by", " ", "--reason", "x"],
        ["2026-W47", "--by", "a", "--reason", "two\nlines"],
        ["2026-47", "--by", "a", "--reason", "x"],
    ],
)
def test_a_release_says_who_why_and_of_which_week(
    database_url: str, tmp_path: Path, arguments: list[str]
) -> None:
    assert released(database_url, tmp_path, *arguments)[0] == 2
