"""Each target of a route gets a message once, and none holds up another."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import psycopg
import pytest

from tbg_core.outbox import post
from tbg_notify import channel, delivery
from tbg_notify.channel import Undelivered, send, targets
from tbg_notify.delivery import deliver
from tbg_notify.failing import failing
from tbg_notify.memory import Memory
from tbg_notify.parcels import pack
from tbg_notify.plan import plan
from tbg_notify.routes import WEBHOOK, Route, load
from tbg_notify.targets import Target, targets_of
from tbg_notify.text import Text
from tests.tbg_dagster.conftest import Connection
from tests.tbg_notify.channels import Mail, mail

NOW = datetime.now(UTC).replace(microsecond=0)
Answer = Callable[[dict[str, Any]], tuple[int, dict[str, str]]]


class Server:
    """A push server that answers as told; keeps every request with its answer."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[tuple[str, int]] = []
        self.bodies: list[dict[str, Any]] = []
        self.answer: Answer = lambda _: (200, {})

    def counts(self) -> Counter[tuple[str, int]]:
        return Counter(self.asked)


@contextmanager
def serving() -> Iterator[Server]:
    made = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers = made.answer(body)
            made.asked.append((body.get("topic", self.path), status))
            made.bodies.append(body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.port = server.server_port
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


def news(connection: Connection, number: int) -> None:
    post(
        connection,
        "notify:incident",
        f"k{number}",
        {
            "state": "firing", "incident": f"run:{number}", "severity": "ERROR",
            "title": f"run {number} fails", "detail": "",
        },
    )  # fmt: skip


def states(connection: Connection) -> Counter[str]:
    return Counter(row["state"] for row in connection.execute("select state from alert_deliveries"))


def days(connection: Connection, route: Route, hours: float, step: float = 60) -> None:
    """The notifier's rounds for so long."""
    for second in range(0, int(hours * 3600), int(step)):
        deliver(connection, "r", route, NOW + timedelta(seconds=2 + second), send)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_target_that_refuses_for_good_is_asked_once_and_named_and_the_other_gets_it_once(
    connection: Connection, server: Server, database_url: str, status: int
) -> None:
    route = Route(to=f"ntfy://127.0.0.1:{server.port}/good/bad")
    server.answer = lambda body: (status if body["topic"] == "bad" else 200, {})
    news(connection, 1)
    plan(connection, {"r": route}, NOW)
    days(connection, route, 80, 1200)
    assert server.counts() == {("good", 200): 1, ("bad", status): 1}
    assert states(connection) == {"sent": 1}
    with psycopg.connect(database_url) as plain:
        [found] = failing(plain)
    assert (found.route, found.permanent) == ("r", True)
    assert found.target.endswith("/bad")
    assert str(status) in found.answer
    # Mended, it gets the next one, and is no longer named.
    server.answer = lambda _: (200, {})
    news(connection, 2)
    plan(connection, {"r": route}, NOW)
    deliver(connection, "r", route, NOW + timedelta(days=4), send)
    assert server.counts()[("bad", 200)] == 1
    with psycopg.connect(database_url) as plain:
        assert failing(plain) == []


def test_a_target_that_is_down_gets_later_what_the_other_got_once(
    connection: Connection, server: Server
) -> None:
    route = Route(to=f"ntfy://127.0.0.1:{server.port}/good/bad")
    server.answer = lambda body: (503 if body["topic"] == "bad" else 200, {})
    for number in range(3):
        news(connection, number)
        plan(connection, {"r": route}, NOW)
        days(connection, route, 0.1, 2)
    assert server.counts()[("good", 200)] == 3
    # Asked after 5, 10, 20 … seconds, whatever waits: not for every message.
    assert server.counts()[("bad", 503)] <= 9
    server.answer = lambda _: (200, {})
    deliver(connection, "r", route, NOW + timedelta(hours=1), send)
    assert server.counts()[("bad", 200)] == 3
    assert server.counts()[("good", 200)] == 3
    assert states(connection) == {"sent": 3}


def test_a_target_is_left_alone_for_as_long_as_it_asks(
    connection: Connection, server: Server
) -> None:
    route = Route(to=f"ntfy://127.0.0.1:{server.port}/topic")
    server.answer = lambda _: (429, {"Retry-After": "600"})
    news(connection, 1)
    plan(connection, {"r": route}, NOW)
    for second in range(2, 600, 2):
        deliver(connection, "r", route, NOW + timedelta(seconds=second), send)
    assert len(server.asked) == 1
    deliver(connection, "r", route, NOW + timedelta(seconds=640), send)
    assert len(server.asked) == 2
    assert states(connection) == {"waiting": 1}


@pytest.mark.parametrize("header", ["-5", "soon", "", "Thu, 99 Foo", "9" * 400])
def test_a_senseless_wish_to_be_left_alone_is_none_or_bounded(header: str) -> None:
    assert channel._rest(header) in (None, channel.LONGEST_REST)


def test_forty_messages_on_a_dead_channel_are_one_question_at_a_time(
    connection: Connection,
) -> None:
    asked = []

    def refuse(target: Target, _text: Text) -> None:
        asked.append(target.label)
        raise Undelivered("down")

    route = Route(to="json://127.0.0.1:1/x")
    for number in range(40):
        moment = NOW + timedelta(seconds=20 * number)
        kind = ("best_alltime", "best_week", "leader")[number % 3]
        payload = {
            "kinds": [kind], "user": f"u{number}", "worker": "w", "best": 5.0 + number,
            "at": moment.isoformat(),
        }  # fmt: skip
        post(connection, "notify:best", f"m{number}", payload)
        plan(connection, {"r": route}, moment)
        for second in range(0, 20, 2):
            deliver(connection, "r", route, moment + timedelta(seconds=second), refuse)
    assert len(asked) <= 9  # of 800 seconds: 5, 10, 20, 40, … apart


def test_a_mailbox_that_does_not_exist_does_not_cost_the_others_a_second_mail(
    connection: Connection,
) -> None:
    class Box(Mail):
        async def handle_RCPT(self, *given: Any) -> str:  # noqa: N802  aiosmtpd's name
            _server, _session, envelope, address, _options = given
            if address.startswith("gone"):
                return "550 5.1.1 no such user"
            envelope.rcpt_tos.append(address)
            return "250 OK"

    with mail(Box()) as served:
        route = Route(
            to=f"mailto://127.0.0.1:{served.port}?smtp=127.0.0.1&from=pool@example.org"
            "&to=gone@example.org,here@example.org&cc=copy@example.org&mode=insecure"
        )
        news(connection, 1)
        plan(connection, {"r": route}, NOW)
        days(connection, route, 2)
        assert sorted(str(one["to"]) for one in served.taken) == [
            "copy@example.org", "here@example.org",
        ]  # fmt: skip
    assert states(connection) == {"sent": 1}
    row = connection.execute("select permanent, answer from alert_targets").fetchone()
    assert row is not None
    assert row["permanent"]
    assert "550" in row["answer"]


@pytest.mark.parametrize(
    ("url", "count"),
    [
        ("tgram://123456789:abcdefghijklmnopqrstuvwxyz012345678/111/222/333/", 3),
        ("ntfy://host/a, json://h/b", 2),
        ("ntfy://host/a?to=b,c", 3),
        ("discord://1234567890/abcdefghijklmnop", 1),
        ("json://host/path", 1),
    ],
)
def test_a_url_has_as_many_targets_as_it_names(url: str, count: int) -> None:
    found = targets_of(url)
    assert len(found) == len({one.key for one in found}) == count
    assert all(len(one.service) == 1 for one in found)
    assert "abcdefghijklmnopqrstuvwxyz" not in str(found)


# --- Messages that cannot be told ------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "payload"),
    [
        ("notify:best", {"kinds": ["best_week"], "user": "u", "worker": "w"}),
        ("notify:block_found", {"user": "u", "height": "high"}),
        ("mining:weekly_reset", {"week": "2026-W47", "entrants": 2}),
        ("notify:daily_digest", {"day": "yesterday"}),
        ("notify:worker_offline", {"workers": [{"user": "u", "worker": 5}]}),
        ("notify:incident", {"incident": 5, "severity": "ERROR", "state": "firing"}),
        ("notify:best", []),
        ("notify:block_found", None),
    ],
)
def test_a_message_that_cannot_be_told_is_a_dead_letter_and_a_block_behind_it_is_told(
    connection: Connection, stream: str, payload: Any
) -> None:
    route, told = Route(to="json://127.0.0.1:1/x"), []
    if isinstance(payload, dict):
        payload = {"at": NOW.isoformat(), **payload}
    connection.execute(
        "insert into outbox (stream, key, event, payload) values (%s, 'bad', 'x', %s)",
        [stream, json.dumps(payload)],
    )
    block = {
        "user": "u", "worker": "w", "height": 1, "hash": "aa", "reward_sats": 5,
        "at": NOW.isoformat(),
    }  # fmt: skip
    post(connection, "notify:block_found", "good", block)
    for second in range(3):
        moment = NOW + timedelta(seconds=second)
        plan(connection, {"r": route}, moment)
        deliver(connection, "r", route, moment, lambda _, text: told.append(text.title))
    assert told == ["Block 1 found"]
    rows = connection.execute("select stage, detail from dead_letters").fetchall()
    assert [row["stage"] for row in rows] == ["notifier"]
    assert rows[0]["detail"].startswith("bad")


def test_a_text_that_a_service_chokes_on_holds_up_no_other(connection: Connection) -> None:
    route, told = Route(to="json://127.0.0.1:1/x"), []

    def choke(_target: Target, text: Text) -> None:
        if "run 1" in text.title:
            raise UnicodeEncodeError("ascii", "x", 0, 1, "no")
        told.append(text.title)

    for number in range(3):
        news(connection, number)
    moment = datetime.now(UTC)
    plan(connection, {"r": route}, moment)
    result = deliver(connection, "r", route, moment, choke)
    assert told == ["run 0 fails", "run 2 fails"]
    assert (result.sent, result.unreadable) == (2, 1)


def test_the_databases_own_trouble_is_no_fault_of_a_message(connection: Connection) -> None:
    post(connection, "notify:daily_digest", "k", {"day": "2026-11-01"})
    route, moment = Route(to="json://127.0.0.1:1/x"), datetime.now(UTC)
    plan(connection, {"r": route}, moment)
    rows = connection.execute(delivery._DUE, ["r", moment]).fetchall()
    connection.execute("alter table worker_stats_daily rename to away")
    with pytest.raises(psycopg.errors.UndefinedTable):
        pack(connection, "r", route, rows, moment)


# --- The webhook, and secrets ----------------------------------------------------------


def test_the_webhook_of_the_environment_is_a_route_and_gets_json_with_a_text(
    connection: Connection, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{server.port}/hooks/s3cr3t-t0ken?key=an0ther-secret"
    monkeypatch.setenv(WEBHOOK, url)
    routes = load(None)
    assert set(routes) == {WEBHOOK}
    news(connection, 1)
    plan(connection, routes, datetime.now(UTC))
    assert deliver(connection, WEBHOOK, routes[WEBHOOK], datetime.now(UTC), send).sent == 1
    assert server.asked == [("/hooks/s3cr3t-t0ken?key=an0ther-secret", 200)]
    assert "run 1 fails" in server.bodies[0]["text"]


def test_no_secret_stands_in_a_refusal_a_label_or_a_log(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    server.answer = lambda _: (403, {})
    url = f"http://127.0.0.1:{server.port}/hooks/s3cr3t-t0ken?key=an0ther-secret"
    for to, where in ((url, "${CHANNEL}"), ("ntfy://tk_s3cr3t@127.0.0.1:1/x", "${CHANNEL}")):
        monkeypatch.setenv("CHANNEL", to)
        route = Route(to=where)
        with pytest.raises(Undelivered) as refused:
            send(route, Text("title", ("line",)))
        labels = " ".join(f"{one.label} {one!r}" for one in targets(route))
        everything = f"{refused.value} {labels} {caplog.text} {capfd.readouterr()}"
        for secret in ("s3cr3t-t0ken", "an0ther-secret", "tk_s3cr3t"):
            assert secret not in everything


def test_a_hanging_target_is_asked_again_and_the_well_one_hears_of_the_database_once(
    server: Server,
) -> None:
    memory = Memory({"r": Route(to=f"ntfy://127.0.0.1:{server.port}/good/bad")})
    server.answer = lambda body: (503 if body["topic"] == "bad" else 200, {})
    memory.begin(Text("The database does not answer"))
    for second in range(0, 60, 2):
        memory.send(NOW + timedelta(seconds=second))
    assert server.counts()[("good", 200)] == 1
    assert server.counts()[("bad", 503)] <= 5
    memory.end(Text("Recovered"))
    memory.send(NOW + timedelta(seconds=60))
    assert server.counts()[("good", 200)] == 2
    assert server.counts()[("bad", 503)] <= 5  # never told, so nothing has recovered for it


def test_the_webhook_must_be_an_address() -> None:
    with pytest.raises(ValueError, match=WEBHOOK):
        load(None, {WEBHOOK: "not an address with s3cr3t"})
    assert load(None, {WEBHOOK: ""}) == {}
