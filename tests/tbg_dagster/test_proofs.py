"""No week is published whose first ten have a proof of work that fails."""

import json
from datetime import date, timedelta
from typing import Any

import dagster as dg
import pytest

from ingest.names import WEEKLY_RESET_STREAM
from tbg_dagster.resources import Thresholds
from tbg_dagster.weekly import proof_checks
from tests.clock import Clock, moment_of
from tests.forged import FORGERIES, OTHER_USER, forged, genuine
from tests.tbg_dagster.conftest import Connection, History, Run

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
