"""Blocks on their way to final: the rules, a node that misbehaves, and a real reorg."""

import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbg_core.names import BLOCK_STATUS_STREAM
from tbg_dagster import clock
from tbg_dagster.blocks.confirmations import confirm
from tbg_dagster.blocks.status import next_status
from tbg_dagster.resources import BitcoinNode, RedisServer, Thresholds
from tbg_dagster.resources.bitcoin import Header, NodeError
from tests.processes import PYTHON, running
from tests.tbg_dagster.conftest import Connection, History, Run, metadata_of

GRACE = timedelta(minutes=30)
HASH = "00" * 31 + "ab"
ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"


def told(client: Any) -> list[tuple[str, str, str]]:
    """Hash, old and new status of every message."""
    messages = (json.loads(fields["data"]) for _, fields in client.xrange(BLOCK_STATUS_STREAM))
    return [(item["hash"], item["old_status"], item["new_status"]) for item in messages]


def status_of(connection: Connection, block_hash: str) -> tuple[str, int]:
    row = connection.execute(
        "select status, confirmations from blocks where block_hash = %s", [block_hash]
    ).fetchone()
    assert row is not None
    return row["status"], row["confirmations"]


@given(
    st.sampled_from(["found", "accepted", "orphaned", "rejected"]),
    st.integers(1, 10**6),
    st.timedeltas(timedelta(0), timedelta(days=9)),
)
def test_a_block_on_the_active_chain_is_accepted_and_then_confirmed(
    status: Any, confirmations: int, age: timedelta
) -> None:
    new = next_status(status, Header(1, confirmations), age, 100, GRACE)
    assert new == ("confirmed" if confirmations >= 100 else "accepted")
    assert next_status(status, Header(1, -1), age, 100, GRACE) == "orphaned"


@pytest.mark.parametrize(
    ("status", "age", "expected"),
    [
        ("found", timedelta(minutes=29), "found"),
        ("found", timedelta(minutes=30), "rejected"),
        ("accepted", timedelta(days=2), "accepted"),
        ("orphaned", timedelta(days=2), "orphaned"),
        ("rejected", timedelta(days=2), "rejected"),
    ],
)
def test_only_a_block_that_was_never_heard_of_is_rejected_after_the_grace(
    status: Any, age: timedelta, expected: str
) -> None:
    assert next_status(status, None, age, 100, GRACE) == expected


# --- A node that misbehaves ------------------------------------------------------------


@contextmanager
def node(answers: dict[str, Any], http_status: int = 200) -> Iterator[str]:
    """A node with fixed answers, by method; a string is sent as it is.

    A function makes the answer from the first parameter.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = answers[body["method"]]
            if callable(answer):
                answer = answer(body["params"][0])
            text = answer if isinstance(answer, str) else json.dumps(answer)
            self.send_response(http_status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def result(value: Any) -> dict[str, Any]:
    return {"result": value, "error": None, "id": 1}


HEADER = {"hash": HASH, "height": 7, "confirmations": 3}


NONSENSE = [
    result({**HEADER, "confirmations": 0}),
    result({**HEADER, "confirmations": "3"}),
    result({**HEADER, "confirmations": True}),
    result({**HEADER, "hash": "11" * 32}),
    result({"hash": HASH}),
    result([1, 2]),
    result(None),
    {"result": None, "error": {"code": -28, "message": "Loading block index"}},
    {"error": "no"},
    "<html>502 Bad Gateway</html>",
    "[]",
]


def test_nonsense_of_the_node_changes_nothing(connection: Connection, history: History) -> None:
    history.block("a.x", 7, HASH)
    for header in NONSENSE:
        with (
            node({"getblockcount": result(9), "getblockheader": header}) as url,
            pytest.raises(NodeError) as caught,
        ):
            confirm(connection, BitcoinNode(url=url), 100, GRACE)
        assert len(str(caught.value)) > 20, header
    assert status_of(connection, HASH) == ("found", 0)
    assert connection.execute("select * from outbox").fetchall() == []


def test_a_block_of_another_height_is_set_aside_loudly_and_the_others_go_on(
    connection: Connection, history: History, run: Run, resources: dict[str, Any]
) -> None:
    wrong, right = HASH, "00" * 31 + "cd"
    history.block("a.x", 8, wrong)
    history.block("a.x", 7, right)
    headers = {
        wrong: result(HEADER),
        right: result({"hash": right, "height": 7, "confirmations": 3}),
    }
    with node({"getblockcount": result(9), "getblockheader": headers.__getitem__}) as url:
        resources["bitcoin_node"] = BitcoinNode(url=url, retries=0)
        done = run("confirm_blocks")
        metadata = metadata_of(done, "block_confirmations")
        assert (metadata["set_aside_wrong_height"], metadata["transitions"]) == (1, 1)
        assert status_of(connection, wrong) == ("found", 0)
        assert status_of(connection, right) == ("accepted", 3)
        checks = {item.check_name: item for item in done.get_asset_check_evaluations()}
        found = checks["blocks_have_the_nodes_height"]
        assert not found.passed
        assert f"{wrong}: 8 reported, 7 on the node" in str(found.description)
        # The engine's report is put right: it takes part again.
        connection.execute("update blocks set block_height = 7")
        done = run("confirm_blocks")
    assert status_of(connection, wrong) == ("accepted", 3)
    evaluations = done.get_asset_check_evaluations()
    assert {item.check_name: item.passed for item in evaluations}["blocks_have_the_nodes_height"]


UNKNOWN = {"result": None, "error": {"code": -5, "message": "Block not found"}, "id": 1}
BEHIND = [(6, False, 6), (7, True, 7), (7, False, 9)]


@pytest.mark.parametrize(("tip", "downloading", "headers"), BEHIND)
@pytest.mark.parametrize("answer", [UNKNOWN, result({**HEADER, "confirmations": -1})])
@pytest.mark.parametrize("age", [timedelta(hours=1), timedelta(days=2)])
def test_a_node_that_is_behind_condemns_no_block(
    connection: Connection,
    client: Any,
    history: History,
    run: Run,
    resources: dict[str, Any],
    tip: int,
    downloading: bool,
    headers: int,
    answer: dict[str, Any],
    age: timedelta,
) -> None:
    history.block("a.x", 7, HASH, clock.now() - age)
    chain = {"initialblockdownload": downloading, "blocks": tip, "headers": headers}
    answers = {
        "getblockcount": result(tip),
        "getblockheader": answer,
        "getblockchaininfo": result(chain),
    }
    with node(answers) as url:
        resources["bitcoin_node"] = BitcoinNode(url=url, retries=0)
        done = run("confirm_blocks")
        assert status_of(connection, HASH) == ("found", 0)
        assert told(client) == []
        metadata = metadata_of(done, "block_confirmations")
        assert (metadata["undecided_node_behind"], metadata["node_height"]) == (1, tip)
        checks = {item.check_name: item for item in done.get_asset_check_evaluations()}
        assert not checks["node_has_every_block"].passed
        # It has caught up, and says the same: now it counts.
        answers["getblockcount"] = result(9)
        answers["getblockchaininfo"] = result(
            {**chain, "initialblockdownload": False, "blocks": 9, "headers": 9}
        )
        done = run("confirm_blocks")
    assert told(client) == [(HASH, "found", "rejected" if answer is UNKNOWN else "orphaned")]
    checks = {item.check_name: item for item in done.get_asset_check_evaluations()}
    assert checks["node_has_every_block"].passed


def test_a_node_that_is_away_is_asked_again_and_then_the_run_fails(
    connection: Connection, history: History, run: Run, resources: dict[str, Any]
) -> None:
    history.block("a.x", 7, HASH)
    resources["bitcoin_node"] = BitcoinNode(url="http://127.0.0.1:1", retries=2, retry_seconds=0)
    done = run("confirm_blocks", raise_on_error=False)
    assert not done.success
    kinds = [event.event_type_value for event in done.all_node_events]
    assert kinds.count("STEP_UP_FOR_RETRY") == 2
    assert "no answer from http://127.0.0.1:1" in str(
        done.failure_data_for_node("block_confirmations")
    )
    assert status_of(connection, HASH) == ("found", 0)


def test_credentials_go_into_the_header_and_never_into_a_message(tmp_path: Path) -> None:
    cookie = tmp_path / ".cookie"
    cookie.write_text("__cookie__:s3cret")
    for made in (
        BitcoinNode(url="http://user:s3cret@127.0.0.1:1"),
        BitcoinNode(url="http://127.0.0.1:1", user="user", password="s3cret"),  # noqa: S106  # a test's
        BitcoinNode(url="http://127.0.0.1:1", cookie_file=str(cookie)),
    ):
        with pytest.raises(NodeError) as caught:
            made.height()
        assert "s3cret" not in str(caught.value)
    with pytest.raises(NodeError, match="cookie file"):
        BitcoinNode(url="http://127.0.0.1:1", cookie_file=str(tmp_path / "none")).height()


def test_a_transition_is_told_once_however_often_the_node_is_asked(
    connection: Connection, client: Any, history: History, run: Run, resources: dict[str, Any]
) -> None:
    history.block("a.x", 7, HASH)
    with node({"getblockcount": result(9), "getblockheader": result(HEADER)}) as url:
        resources["bitcoin_node"] = BitcoinNode(url=url)
        run("confirm_blocks")
        run("confirm_blocks")
    assert status_of(connection, HASH) == ("accepted", 3)
    assert told(client) == [(HASH, "found", "accepted")]


def test_a_transition_that_redis_missed_is_told_when_it_is_back(
    connection: Connection, client: Any, history: History, run: Run, resources: dict[str, Any]
) -> None:
    history.block("a.x", 7, HASH)
    good = resources["redis_server"]
    with node({"getblockcount": result(9), "getblockheader": result(HEADER)}) as url:
        resources["bitcoin_node"] = BitcoinNode(url=url)
        resources["redis_server"] = RedisServer(url="redis://127.0.0.1:1/0")
        done = run("confirm_blocks", raise_on_error=False)
        assert "Redis at 127.0.0.1:1" in str(done.failure_data_for_node("block_confirmations"))
        assert status_of(connection, HASH)[0] == "accepted"
        resources["redis_server"] = good
        run("confirm_blocks")
    assert told(client) == [(HASH, "found", "accepted")]


# --- The devnet's node: real consensus, a real reorg -----------------------------------


@pytest.fixture
def regtest(tmp_path: Path) -> Iterator[str]:
    """URL, with credentials, of a regtest node of the test's own."""
    program = "from devnet.node.cli import node; node()"
    command = [PYTHON, "-c", program, "--datadir", tmp_path / "node", "--port", "0"]
    command += ["--rpcuser", "tbg", "--log-format", "json"]
    with running(command, tmp_path / "node.log", {"TBG_RPC_PASSWORD": "test"}) as process:
        process.wait_for(re.compile('"node ready".*\n'))
        (address,) = re.findall(r'"url": ?"http://([^"]*)"', process.output)
        yield f"http://tbg:test@{address}"


def call(url: str, method: str, *parameters: Any) -> Any:
    return BitcoinNode(url=url, timeout_seconds=60)._call(method, *parameters)


def test_a_block_is_accepted_then_confirmed_and_another_orphaned_by_a_real_reorg(
    connection: Connection,
    client: Any,
    history: History,
    run: Run,
    resources: dict[str, Any],
    regtest: str,
) -> None:
    resources["bitcoin_node"] = BitcoinNode(url=regtest)
    (first,) = call(regtest, "generatetoaddress", 1, ADDRESS)
    history.block("alice.x", 1, first)
    unknown = "11" * 32
    history.block("mallory.x", 1, unknown, clock.now() - timedelta(hours=1))
    run("confirm_blocks")
    assert status_of(connection, first) == ("accepted", 1)
    assert status_of(connection, unknown) == ("rejected", 0)

    call(regtest, "generatetoaddress", 99, ADDRESS)
    done = run("confirm_blocks")
    assert status_of(connection, first) == ("confirmed", 100)
    assert metadata_of(done, "block_confirmations")["transitions"] == 1

    parent = call(regtest, "getbestblockhash")
    (lost,) = call(regtest, "generatetoaddress", 1, ADDRESS)
    history.block("bob.x", 101, lost)
    run("confirm_blocks")
    call(regtest, "devnet_generate", parent, 2, ADDRESS)  # a longer branch
    run("confirm_blocks")
    assert status_of(connection, lost) == ("orphaned", 0)

    call(regtest, "devnet_generate", lost, 2, ADDRESS)  # and the old one overtakes it
    run("confirm_blocks")
    assert status_of(connection, lost) == ("accepted", 3)
    call(regtest, "devnet_generate", call(regtest, "getblockhash", 100), 4, ADDRESS)
    run("confirm_blocks")
    assert status_of(connection, lost) == ("orphaned", 0)

    assert told(client) == [
        (first, "found", "accepted"),
        (unknown, "found", "rejected"),
        (first, "accepted", "confirmed"),
        (lost, "found", "accepted"),
        (lost, "accepted", "orphaned"),
        (lost, "orphaned", "accepted"),
        (lost, "accepted", "orphaned"),
    ]
    row = connection.execute(
        "select confirmed_at is not null as done from blocks where block_hash = %s", [first]
    ).fetchone()
    assert row == {"done": True}


def test_an_orphan_is_final_when_the_other_chain_is_deep_enough(
    connection: Connection, history: History, run: Run, resources: dict[str, Any], regtest: str
) -> None:
    resources["bitcoin_node"] = BitcoinNode(url=regtest)
    resources["thresholds"] = Thresholds(confirmations=3)
    parent = call(regtest, "generatetoaddress", 1, ADDRESS)[0]
    (lost,) = call(regtest, "generatetoaddress", 1, ADDRESS)
    history.block("bob.x", 2, lost)
    call(regtest, "devnet_generate", parent, 2, ADDRESS)  # heights 2 and 3
    assert metadata_of(run("confirm_blocks"), "block_confirmations")["looked_at"] == 1
    assert status_of(connection, lost) == ("orphaned", 0)
    assert metadata_of(run("confirm_blocks"), "block_confirmations")["looked_at"] == 1
    call(regtest, "generatetoaddress", 1, ADDRESS)  # height 2 is three deep now
    assert metadata_of(run("confirm_blocks"), "block_confirmations")["looked_at"] == 0


# --- Odds ------------------------------------------------------------------------------


def test_the_network_difficulty_is_kept_as_the_values_that_it_had(
    connection: Connection, run: Run
) -> None:
    start = clock.now() - timedelta(days=1)
    for number, difficulty in enumerate([10.0, 10.0, 10.0, 20.0, 20.0, 10.0]):
        connection.execute(
            "insert into network_blocks (hash, height, network_difficulty, seen_at) "
            "values (%s, %s, %s, %s)",
            [f"{number:064x}", 100 + number, difficulty, start + timedelta(minutes=10 * number)],
        )
    # A reorg: the same height again, later.
    connection.execute(
        "insert into network_blocks (hash, height, network_difficulty, seen_at) "
        "values ('ff', 105, 10.0, now())"
    )
    for _ in range(2):
        run("odds")
        rows = connection.execute("select * from network_difficulty order by 1").fetchall()
        assert [(row["first_height"], row["last_height"], row["blocks"]) for row in rows] == [
            (100, 102, 3),
            (103, 104, 2),
            (105, 105, 1),
        ]
        assert [row["network_difficulty"] for row in rows] == [10.0, 20.0, 10.0]
        assert [row["block_seconds"] for row in rows] == [600.0, 600.0, None]


def test_the_odds_follow_from_work_and_network_difficulty(
    connection: Connection, history: History, run: Run
) -> None:
    connection.execute(
        "insert into network_blocks (hash, height, network_difficulty, seen_at) "
        "values ('aa', 1, 864000.0, now())"
    )
    ago = clock.now() - timedelta(hours=2)
    history.share("a.1", ago, difficulty=900.0)
    history.share("a.2", ago, difficulty=100.0)
    history.share("a.2", ago, None, difficulty=5000.0, reject="stale")
    run("odds")
    rows = connection.execute("select * from block_odds order by scope, worker_id").fetchall()
    assert [row["scope"] for row in rows] == ["pool", "worker", "worker"]
    # Work of 1000 a day, and 864,000 needed: 864 days.
    assert [row["expected_seconds"] for row in rows] == pytest.approx(
        [864 * 86_400, 960 * 86_400, 8640 * 86_400]
    )
    assert rows[0]["chance_day"] == pytest.approx(1 / 864, rel=1e-3)
    assert rows[0]["hashrate"] == pytest.approx(1000 * 2**32 / 86_400)


def test_the_odds_of_the_first_day_divide_by_the_time_that_there_was(
    connection: Connection, history: History, run: Run
) -> None:
    connection.execute(
        "insert into network_blocks (hash, height, network_difficulty, seen_at) "
        "values ('aa', 1, 864000.0, now())"
    )
    now = clock.now()
    history.share("a.old", now - timedelta(hours=2), difficulty=7200.0)
    history.share("a.new", now - timedelta(seconds=1), difficulty=600.0)
    seen = {"old": now - timedelta(hours=2), "new": now - timedelta(seconds=1)}

    def rates() -> list[float]:
        for name, moment in seen.items():
            connection.execute(
                "update workers set first_seen = %s where worker_name = %s", [moment, name]
            )
        run("odds")
        rows = connection.execute("select * from block_odds order by scope, worker_id").fetchall()
        return [row["hashrate"] / 2**32 for row in rows]

    # A share of the last second is taken for a minute's: one proves little.
    assert rates() == pytest.approx([7800 / 7200, 1, 10], rel=0.01)
    # An import may know shares from before the worker was seen; the pool is as old as its oldest.
    seen["old"] = now
    assert rates() == pytest.approx([7800 / 7200, 1, 10], rel=0.01)
    seen["new"] = now - timedelta(hours=12)
    assert rates() == pytest.approx([7800 / 43_200, 1, 600 / 43_200], rel=0.01)
    # From the second day on it is 24 hours.
    seen["old"] = now - timedelta(days=9)
    assert rates() == pytest.approx([7800 / 86_400, 7200 / 86_400, 600 / 43_200], rel=0.01)
