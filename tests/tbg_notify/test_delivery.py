"""From the tables to the channels: once, together, in time, and never lost."""

import signal
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from psycopg.types.json import Jsonb

from tbg_core.outbox import post
from tbg_dagster.workers.liveness import mark_silent
from tbg_notify.channel import Undelivered, send
from tbg_notify.collect import collect
from tbg_notify.delivery import deliver
from tbg_notify.plan import plan
from tbg_notify.quiet import Quiet
from tbg_notify.routes import Route
from tbg_notify.targets import Target
from tbg_notify.text import Text
from tests.processes import PYTHON, Process, until
from tests.tbg_dagster.conftest import Connection, History
from tests.tbg_notify.channels import Mail, Web

NOW = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
FALLBACK, DEBOUNCE = timedelta(seconds=600), timedelta(seconds=300)
ALL = Route(to="json://127.0.0.1:1")


class Phone:
    """A channel in memory that keeps what it was sent, and refuses when told to."""

    def __init__(self) -> None:
        self.texts: list[Text] = []
        self.down = False

    def __call__(self, _target: Target, text: Text) -> None:
        if self.down:
            raise Undelivered("down")
        self.texts.append(text)

    @property
    def titles(self) -> list[str]:
        return [text.title for text in self.texts]


def tick(
    connection: Connection, phone: Phone, now: datetime, route: Route = ALL, name: str = "phone"
) -> None:
    """What the notifier does every two seconds."""
    collect(connection, now)
    plan(connection, {name: route}, now)
    deliver(connection, name, route, now, phone)


def offline(connection: Connection, names: list[str], at: datetime, word: str = "offline") -> None:
    """The batch side's message."""
    workers = [
        {"user": user, "worker": worker, "silent_since": (at - DEBOUNCE).isoformat()}
        for user, _, worker in (one.partition(".") for one in names)
    ]
    post(connection, f"notify:worker_{word}", f"{word} {at}", {"workers": workers, "at": at.isoformat()})  # fmt: skip


def states(connection: Connection) -> dict[str, int]:
    rows = connection.execute("select state, count(*) as n from alert_deliveries group by 1")
    return {row["state"]: row["n"] for row in rows}


# --- Blocks and bests ------------------------------------------------------------------


def test_a_found_block_is_told_once_with_its_reward_and_whole_hash(
    connection: Connection, history: History
) -> None:
    phone = Phone()
    history.block("bc1quser.rig", 900_001, "ab" * 32, NOW)
    for seconds in (1, 3, 5):
        tick(connection, phone, NOW + timedelta(seconds=seconds))
    (text,) = phone.texts
    assert text.title == "Block 900,001 found"
    assert f"Hash: {'ab' * 32}" in text.lines
    assert "3.12500000 BTC" in text.lines[1]


def test_an_old_block_is_history(connection: Connection, history: History) -> None:
    phone = Phone()
    history.block("a.1", 1, "ab" * 32, NOW - timedelta(days=2))
    tick(connection, phone, NOW)
    assert phone.texts == []


@pytest.mark.parametrize(
    ("old", "new", "title"),
    [
        ("accepted", "confirmed", "Block 7 confirmed"),
        ("accepted", "orphaned", "Block 7 orphaned"),
        ("found", "rejected", "Block 7 rejected"),
        ("orphaned", "accepted", "Block 7 is back on the chain"),
        ("found", "accepted", None),
    ],
)
def test_a_blocks_life_is_told_from_the_message_that_programs_get(
    connection: Connection, old: str, new: str, title: str | None
) -> None:
    phone = Phone()
    payload = {
        "hash": "cd" * 32, "height": 7, "old_status": old, "new_status": new,
        "confirmations": 100, "user": "a", "reward_sats": 1, "found_at": 1,
    }  # fmt: skip
    post(connection, "mining:block_status", "k", payload)
    tick(connection, phone, datetime.now(UTC))
    assert phone.titles == ([title] if title else [])
    # Redis has not been sent it by this.
    row = connection.execute("select sent_at from outbox").fetchone()
    assert row == {"sent_at": None}


def best(
    connection: Connection,
    history: History,
    user: str,
    value: float,
    at: datetime,
    shares: int = 500,
) -> None:
    """The week's row as the writer keeps it, and the shares of its totals."""
    user_id, worker_id = history.worker(f"{user}.rig")
    history.days(at, at)
    connection.execute(
        "insert into shares (time, share_diff, difficulty, user_id, worker_id, is_valid) "
        "select %s, case i when 1 then %s else 2000 end, 2000, %s, %s, true "
        "from generate_series(1, %s) i",
        [at, value, user_id, worker_id, shares],
    )
    connection.execute(
        "insert into weekly_best_diff (user_id, week_start, best_difficulty, best_share_time, "
        "best_worker_id, best_share_hash) "
        "values (%s, date_trunc('week', %s at time zone 'UTC')::date, %s, %s, %s, '\\xab') "
        "on conflict (user_id, week_start) do update set "
        "best_difficulty = excluded.best_difficulty, best_share_time = excluded.best_share_time",
        [user_id, at, value, at, worker_id],
    )


WEDNESDAY = NOW - timedelta(days=NOW.weekday()) + timedelta(days=2)


def test_a_best_is_told_if_it_is_of_all_time_or_changes_the_rank(
    connection: Connection, history: History
) -> None:
    phone, now = Phone(), WEDNESDAY
    last_week = now - timedelta(days=7)
    best(connection, history, "old", 1e12, last_week)
    for user, value in (("old", 1e9), ("a", 3e9), ("b", 2e9)):
        best(connection, history, user, value, now)
    tick(connection, phone, now)
    assert phone.texts == []  # nothing was known before: old news

    now += timedelta(hours=1)
    best(connection, history, "old", 1.5e9, now)  # rank 3 as before
    tick(connection, phone, now)
    assert phone.texts == []
    best(connection, history, "old", 2.5e9, now)  # overtakes b
    tick(connection, phone, now)
    assert phone.titles == ["New best of the week for old: 2.5G"]
    assert "Rank 2 of the week" in phone.texts[0].lines

    now += timedelta(hours=1)
    best(connection, history, "old", 2.0**53 * 3, now)
    tick(connection, phone, now)
    # One share, one message: all time, and the lead.
    assert phone.titles[1:] == ["New best of all time for old: 27.02P"]
    assert "old leads the week now" in phone.texts[1].lines


def test_bests_in_quick_succession_are_told_as_the_last(
    connection: Connection, history: History
) -> None:
    phone, now = Phone(), WEDNESDAY
    best(connection, history, "a", 1e9, now)
    tick(connection, phone, now)
    for minute in range(1, 9):
        best(connection, history, "a", 1e9 + minute * 1e8, now + timedelta(minutes=minute))
        tick(connection, phone, now + timedelta(minutes=minute))
    tick(connection, phone, now + timedelta(minutes=12))
    assert phone.titles == [
        "New best of all time for a: 1.1G",
        "New best of all time for a: 1.8G",
    ]


def broken(
    connection: Connection, history: History, worker: str, value: float, at: datetime,
    count: int = 0,
) -> None:  # fmt: skip
    """A worker's best of the session, as an engine tells it, and so many shares before."""
    user, _, name = worker.partition(".")
    for number in range(count):
        history.share(worker, at - timedelta(minutes=30) + timedelta(seconds=number))
    history.share(worker, at, value)
    payload = {
        "user": user, "worker": name, "new_best_diff": value, "previous_best_diff": 0,
        "period": "session", "hash": "ef" * 32,
    }  # fmt: skip
    connection.execute(
        "insert into mining_events (time, event, payload) values (%s, 'share_best_diff', %s)",
        [at, Jsonb(payload)],
    )


def test_a_workers_best_of_all_time_is_told_to_its_owner_and_not_a_second_time(
    connection: Connection, history: History
) -> None:
    owner, everybody = Phone(), Phone()
    routes = {"owner": Route(to=ALL.to, users=("a",)), "all": ALL}
    now = WEDNESDAY

    def look(minutes: float) -> None:
        moment = now + timedelta(minutes=minutes)
        collect(connection, moment)
        plan(connection, routes, moment)
        for name, phone in (("owner", owner), ("all", everybody)):
            deliver(connection, name, routes[name], moment, phone)

    best(connection, history, "a", 1e9, now)
    look(0)
    # The worker had 100 shares before; its user has done better.
    broken(connection, history, "a.usb", 4e6, now + timedelta(minutes=1), count=100)
    for minute in (1, 2, 20):
        look(minute)
    assert owner.titles == ["New best of all time for a.usb: 4M"]
    assert everybody.titles == []  # a worker's record is its owner's
    (line,) = (line for line in owner.texts[0].lines if line.startswith("Chance"))
    assert line.startswith("Chance of doing as well or better so far")

    # A new session's best that is not of all time; then one that comes half an hour late.
    broken(connection, history, "a.usb", 3e6, now + timedelta(minutes=30))
    broken(connection, history, "a.usb", 5e6, now + timedelta(minutes=25))
    look(60)
    assert owner.titles[1:] == ["New best of all time for a.usb: 5M"]

    # The user's best is the worker's too: one share, one message.
    at = now + timedelta(minutes=90)
    best(connection, history, "a", 2e9, at)
    broken(connection, history, "a.rig", 2e9, at, count=100)
    for minute in (90, 91, 120):
        look(minute)
    assert owner.titles[2:] == ["New best of all time for a: 2G"]
    assert everybody.titles == ["New best of all time for a: 2G"]


def test_a_workers_first_shares_and_what_was_there_before_the_first_look_are_no_news(
    connection: Connection, history: History
) -> None:
    phone, route = Phone(), Route(to=ALL.to, users=("a",))
    best(connection, history, "a", 1e9, WEDNESDAY)
    broken(connection, history, "a.old", 4e6, WEDNESDAY - timedelta(minutes=1), count=100)
    for minute in range(0, 30, 5):
        broken(connection, history, "a.new", 1e6 + minute, WEDNESDAY + timedelta(minutes=minute))
        tick(connection, phone, WEDNESDAY + timedelta(minutes=minute), route)
    assert phone.texts == []


def test_a_best_before_late_rollups_is_remembered(connection: Connection, history: History) -> None:
    phone, route = Phone(), Route(to=ALL.to, users=("a",))
    best(connection, history, "a", 1e9, WEDNESDAY)
    # No rollup of its hour was ever computed.
    broken(connection, history, "a.usb", 4e6, WEDNESDAY - timedelta(hours=8))
    tick(connection, phone, WEDNESDAY, route)
    later = WEDNESDAY + timedelta(minutes=5)
    broken(connection, history, "a.usb", 3e6, later, count=100)
    tick(connection, phone, later, route)
    assert phone.texts == []


def test_a_best_of_the_weeks_last_minute_is_told_after_midnight(
    connection: Connection, history: History
) -> None:
    phone = Phone()
    monday = (WEDNESDAY - timedelta(days=2)).replace(hour=0)
    best(connection, history, "a", 1e9, monday - timedelta(hours=2))
    tick(connection, phone, monday - timedelta(hours=1))
    best(connection, history, "a", 2e9, monday - timedelta(seconds=20))
    for second in (1, 3, 600):
        tick(connection, phone, monday + timedelta(seconds=second))
    assert phone.titles == ["New best of all time for a: 2G"]
    # The new week's go on from there: the closed one is not looked at for ever.
    for second, value in ((660, 3e9), (1300, 4e9)):
        best(connection, history, "a", value, monday + timedelta(seconds=second))
        for later in (1, 3, 300):
            tick(connection, phone, monday + timedelta(seconds=second + later))
    assert phone.titles[1:] == [f"New best of all time for a: {n}G" for n in (3, 4)]


def test_the_share_of_a_block_is_told_as_the_block(
    connection: Connection, history: History
) -> None:
    now, block = WEDNESDAY, "ab"
    bests, everything = Phone(), Phone()
    routes = {"bests": Route(to=ALL.to, kinds=("best_alltime",)), "all": ALL}
    best(connection, history, "a", 1e9, now)
    collect(connection, now)
    now += timedelta(hours=1)
    best(connection, history, "a", 2e14, now)
    history.block("a.rig", 7, block, now)
    collect(connection, now)
    plan(connection, routes, now)
    for name, phone in (("bests", bests), ("all", everything)):
        deliver(connection, name, routes[name], now, phone)
    assert everything.titles == ["Block 7 found"]
    assert bests.titles == ["New best of all time for a: 200T"]


# --- Manners ---------------------------------------------------------------------------


def test_an_outage_of_a_thousand_workers_is_one_message(connection: Connection) -> None:
    phone = Phone()
    names = [f"bc1quser{n % 50}.rig{n}" for n in range(1000)]
    offline(connection, names[:700], NOW)
    tick(connection, phone, NOW)
    # The slower ones are noticed at the next looks.
    offline(connection, names[700:900], NOW + timedelta(minutes=5))
    offline(connection, names[900:], NOW + timedelta(minutes=10))
    for minute in (5, 10, 14):
        tick(connection, phone, NOW + timedelta(minutes=minute))
    assert phone.titles == ["700 workers offline"]
    assert "and 680 more" in phone.texts[0].lines
    tick(connection, phone, NOW + timedelta(minutes=15))
    assert phone.titles[1:] == ["300 workers offline"]


def test_a_worker_has_a_limit_a_day_and_the_last_message_says_so(connection: Connection) -> None:
    phone, route = Phone(), Route(to=ALL.to, cap=3)
    for hour in range(8):
        word = "back" if hour % 2 else "offline"
        offline(connection, ["a.1"], NOW + timedelta(hours=hour), word)
        tick(connection, phone, NOW + timedelta(hours=hour), route)
    assert len(phone.texts) == 3
    assert "Nothing more about a.1 today: its limit is reached" in phone.texts[2].lines
    assert states(connection) == {"sent": 3, "dropped": 5}
    tomorrow = NOW + timedelta(days=1)
    offline(connection, ["a.1"], tomorrow)
    tick(connection, phone, tomorrow, route)
    assert len(phone.texts) == 4


def test_a_muted_worker_is_not_told_and_the_others_are(connection: Connection) -> None:
    phone = Phone()
    connection.execute(
        "insert into alert_mutes values ('a', '1', false, %s)", [NOW + timedelta(hours=1)]
    )
    offline(connection, ["a.1", "a.2"], NOW)
    tick(connection, phone, NOW)
    assert phone.titles == ["a.2 offline"]
    offline(connection, ["a.1"], NOW + timedelta(hours=2))
    tick(connection, phone, NOW + timedelta(hours=2))
    assert phone.titles[1:] == ["a.1 offline"]


def test_in_quiet_hours_all_but_blocks_wait_and_short_absences_are_told_as_such(
    connection: Connection, history: History
) -> None:
    phone = Phone()
    route = Route(to=ALL.to, zone=ZoneInfo("Europe/Berlin"), quiet=Quiet.parse("22:00-07:00"))
    night = NOW.replace(hour=23)
    offline(connection, ["a.1", "a.2"], night)
    tick(connection, phone, night, route)
    offline(connection, ["a.1"], night + timedelta(hours=1), "back")
    history.block("a.1", 5, "ab" * 32, night + timedelta(hours=1))
    tick(connection, phone, night + timedelta(hours=1, seconds=2), route)
    assert phone.titles == ["Block 5 found"]
    tick(connection, phone, night + timedelta(hours=9), route)
    assert phone.titles[1:] == ["1 worker offline, 1 worker away and back"]


def test_a_worker_that_naps_all_day_is_a_few_messages_and_a_sentence_that_says_it_flaps(
    connection: Connection, history: History
) -> None:
    phone, worker = Phone(), history.worker("bc1quser.napper")[1]
    start, minute = NOW, timedelta(minutes=1)
    last = start
    for passed in range(24 * 60):
        now = start + passed * minute
        mining = passed % 14 < 8
        if mining:
            last = now
        connection.execute(
            "update workers set is_online = is_online or %s, last_share = %s, current_diff = 1000, "
            "hashrate_1h = %s where id = %s",
            [mining, last, 1000 * 2**32 / 5.0, worker],
        )
        if passed % 5 == 0:
            mark_silent(connection, now, FALLBACK, DEBOUNCE)
        tick(connection, phone, now)
    sentences = [
        line for text in phone.texts for line in text.lines if "flaps: it went silent" in line
    ]
    assert len(sentences) in (2, 3)
    assert len(phone.texts) <= 6
    # Gone for good, it is told in spite of all.
    for passed in range(24 * 60, 26 * 60, 5):
        now = start + passed * minute
        mark_silent(connection, now, FALLBACK, DEBOUNCE)
        tick(connection, phone, now, Route(to=ALL.to, cap=10))
    assert phone.titles[-1] == "bc1quser.napper offline"


# --- Delivery --------------------------------------------------------------------------


def test_a_channel_that_is_down_delays_its_own_messages_alone_and_gets_them_later(
    connection: Connection,
) -> None:
    good, bad = Phone(), Phone()
    bad.down = True
    routes = {"good": ALL, "bad": ALL}
    offline(connection, ["a.1"], NOW)
    for second in (0, 2, 4, 8, 60):
        now = NOW + timedelta(seconds=second)
        plan(connection, routes, now)
        deliver(connection, "bad", ALL, now, bad)
        deliver(connection, "good", ALL, now, good)
    assert good.titles == ["a.1 offline"]
    assert states(connection) == {"sent": 1, "waiting": 1}
    row = connection.execute("select attempts from alert_deliveries where route = 'bad'").fetchone()
    assert row == {"attempts": 3}  # at 0, 8 and 60 seconds: each time later
    bad.down = False
    deliver(connection, "bad", ALL, NOW + timedelta(minutes=10), bad)
    assert bad.titles == ["a.1 offline"]
    assert states(connection) == {"sent": 2}


def test_two_hundred_failed_checks_are_not_two_hundred_messages(connection: Connection) -> None:
    phone = Phone()
    for number in range(200):
        payload = {
            "state": "firing", "incident": f"check:x:{number}", "severity": "WARN",
            "title": f"check {number} fails", "detail": "",
        }  # fmt: skip
        post(connection, "notify:incident", f"k{number}", payload)
    tick(connection, phone, datetime.now(UTC))
    assert phone.titles == ["200 messages: data quality"]


def test_a_message_that_is_no_message_holds_up_no_other(connection: Connection) -> None:
    phone = Phone()
    post(connection, "notify:worker_offline", "broken", {"workers": [{"nothing": 1}]})
    post(connection, "notify:nonsense", "unknown", {})
    offline(connection, ["a.1"], NOW)
    tick(connection, phone, NOW)
    assert phone.titles == ["a.1 offline"]


# --- Real channels ---------------------------------------------------------------------

HOSTILE = "<b>@everyone</b>\nhttps://evil.example **x**"


def test_ntfy_a_webhook_and_a_mail_get_a_hostile_name_as_text(
    connection: Connection, ntfy: Web, hook: Web, smtp: Mail
) -> None:
    routes = {
        "ntfy": Route(to=f"ntfy://127.0.0.1:{ntfy.port}/mine"),
        "hook": Route(to=f"json://127.0.0.1:{hook.port}/x"),
        "mail": Route(
            to=f"mailto://127.0.0.1:{smtp.port}?smtp=127.0.0.1&from=pool@example.org"
            "&to=me@example.org&mode=insecure"
        ),
    }
    worker = {"user": "a", "worker": HOSTILE, "silent_since": NOW.isoformat()}
    post(connection, "notify:worker_offline", "k", {"workers": [worker], "at": NOW.isoformat()})
    plan(connection, routes, NOW)
    for name, route in routes.items():
        assert deliver(connection, name, route, NOW, send).error is None
    (pushed,), (posted,), (mailed,) = ntfy.taken, hook.taken, smtp.taken
    assert pushed["topic"] == "mine"
    for text in (pushed["title"], posted["title"], str(mailed["subject"])):
        assert "offline" in text
        assert "\n" not in text
    for text in (pushed["message"], posted["message"], smtp.html()):
        assert "silent since 12:00 UTC" in text
        assert "@everyone" not in text
        assert "https://evil" not in text
    assert "&lt;b&gt;" in smtp.html()
    assert "<b>" not in smtp.html()


@pytest.mark.parametrize(
    ("url", "plugin"),
    [
        ("discord://1234567890/abcdefghijklmnop", "discord.NotifyDiscord"),
        (
            "tgram://123456789:abcdefghijklmnopqrstuvwxyz012345678/12315544/",
            "telegram.NotifyTelegram",
        ),
    ],
)
def test_chat_services_get_no_markup_and_no_mention(
    monkeypatch: pytest.MonkeyPatch, hook: Web, url: str, plugin: str
) -> None:
    # The service's own host takes the local server's place.
    monkeypatch.setattr(f"apprise.plugins.{plugin}.notify_url", f"http://127.0.0.1:{hook.port}/")
    monkeypatch.setenv("CHANNEL", url)
    send(Route(to="${CHANNEL}"), Text(f"{HOSTILE} offline", (HOSTILE, "rig_01 *")))
    sent = str(hook.taken)
    assert "@everyone" not in sent
    assert "https://evil" not in sent
    if "discord" in url:
        assert "\\<b\\>" in hook.taken[0]["content"]
        assert "\\*\\*x\\*\\*" in hook.taken[0]["content"]
    else:
        assert "<b>@" not in sent
        assert "&lt;b&gt;" in sent


def test_a_refusal_is_told_without_the_secret(
    monkeypatch: pytest.MonkeyPatch, hook: Web, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    monkeypatch.setenv("TOKEN", "tk_geheim0123456789")
    hook.status = 500
    with pytest.raises(Undelivered) as error:
        send(Route(to=f"ntfy://${{TOKEN}}@127.0.0.1:{hook.port}/mine"), Text("x", ("y",)))
    assert "geheim" not in str(error.value) + caplog.text + "".join(capfd.readouterr())
    assert "500" in str(error.value) or "Internal" in str(error.value)


async def test_a_kill_between_the_channel_and_the_database_repeats_and_loses_nothing(
    connection: Connection, history: History, database_url: str, tmp_path: Path, ntfy: Web
) -> None:
    (tmp_path / "alerts.yml").write_text(
        f"routes: {{phone: {{to: 'ntfy://127.0.0.1:{ntfy.port}/mine'}}}}"
    )
    notifier = Process(
        [PYTHON, "-m", "tbg.cli", "notify"],
        tmp_path / "log",
        {
            "DATABASE_URL": database_url,
            "ALERTS_FILE": str(tmp_path / "alerts.yml"),
            "NOTIFIER_METRICS_PORT": "0",
        },
    ).start()
    try:
        ntfy.hold = threading.Event()  # it has the message, and does not answer
        history.block("a.1", 77, "ab" * 32)
        await until(ntfy.arrived.is_set, "the message arrives")
        assert notifier.popen is not None
        notifier.popen.send_signal(signal.SIGKILL)
        await until(lambda: notifier.returncode is not None)
        assert states(connection) == {"waiting": 1}
        ntfy.hold.set()
        ntfy.hold = None
        notifier.start()
        await until(lambda: states(connection) == {"sent": 1})
        assert {one["title"] for one in ntfy.taken} == {"Block 77 found"}
        assert len(ntfy.taken) in (1, 2)
        notifier.popen.send_signal(signal.SIGTERM)
        await until(lambda: notifier.returncode is not None)
        assert notifier.returncode == 0, notifier.output
    finally:
        if notifier.returncode is None:
            assert notifier.popen is not None
            notifier.popen.kill()
