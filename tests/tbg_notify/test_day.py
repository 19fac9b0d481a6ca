"""A day of a mixed fleet of 300 workers: what people hear of it, and why.

Events go through the real receiver, Valkey, writer and PostgreSQL, and messages through the
real channels' protocols; the clock of the batch side and of the notifier is the day's. What
must be heard is counted from the script (:mod:`tests.tbg_notify.day`), not from our tables.
"""

import asyncio
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from ingest.settings import WriterSettings
from ingest.writer.writer import Writer
from tbg_core import outbox
from tbg_core.names import ALERTS_STREAM
from tbg_dagster.alerts.sensors import alerts_sensor
from tbg_dagster.definitions import defs
from tbg_dagster.resources import BitcoinNode
from tbg_dagster.workers.liveness import mark_silent
from tbg_notify.channel import send
from tbg_notify.collect import collect
from tbg_notify.delivery import deliver
from tbg_notify.kinds import KINDS, WORKER_KINDS
from tbg_notify.plan import plan
from tbg_notify.quiet import Quiet
from tbg_notify.routes import Route
from tests.clock import Clock
from tests.ingest.harness import Sender, sending, stage_environment
from tests.processes import PYTHON, ROOT, running, until
from tests.tbg_dagster.conftest import Connection, Run, last_monday
from tests.tbg_dagster.test_blocks import node
from tests.tbg_notify import day as script
from tests.tbg_notify.channels import Mail, Web, web
from tests.tbg_notify.day import MINUTE, Day

BERLIN = ZoneInfo("Europe/Berlin")
DOWN = (8 * 60 + 30, 12 * 60 + 30)  # minutes in which the archive's channel takes nothing
NODE_AWAY = (21 * 60, 21 * 60 + 30)
FALLBACK, DEBOUNCE = timedelta(seconds=600), timedelta(seconds=300)
KINDS_OF_ARCHIVE = ("best_alltime", "best_week", "best_worker", "leader", "worker_offline")

# How a reader tells the kinds apart: by the words alone.
WORDS = {
    "block_found": r"Block [\d,]+ found",
    "block_confirmed": r"Block [\d,]+ confirmed",
    "block_orphaned": r"Block [\d,]+ orphaned",
    "best_alltime": r"New best of all time for bc1q\w+: ",
    "best_worker": r"New best of all time for \S+\.\S+: ",
    "best_week": r"New best of the week for ",
    "leader": r".* leads the week now",
    "weekly_result": r"Week 20\d\d-W\d\d: the result",
    "ledger_loss": r".*check \w+ of (share_ledger|engine_instances) fails",
    "data_quality": r".*check \w+ of (?!share_ledger|engine_instances)\w+ fails",
    "system": r".*runs of \w+ fail",
    "daily_digest": r"\d+ \w+: \S+H/s, [\d,]+ shares",
}
ABOUT_WORKERS = {
    "worker_offline": "offline",
    "worker_back": "back",
    "worker_flapping": "flapping",
    "away": "away and back",
}


@dataclass
class Heard:
    """What a route's channel got: moments with title and text, and the kinds in them."""

    got: list[tuple[datetime, str, str]] = field(default_factory=list)

    def titles(self, kind: str) -> list[str]:
        """The titles, or lines, that are of a kind."""
        texts = (line for _, title, body in self.got for line in (title, *body.splitlines()))
        return [text for text in texts if re.match(WORDS[kind], text)]

    def workers(self, kind: str) -> int:
        """How many workers were said to be so, over all messages."""
        total = 0
        for _, title, _ in self.got:
            for part in title.split(", "):
                if found := re.fullmatch(rf"(\d+) workers? {ABOUT_WORKERS[kind]}", part):
                    total += int(found[1])
                elif re.fullmatch(rf"\S+\.\S+ {ABOUT_WORKERS[kind]}", part):
                    total += 1
        return total

    def kinds(self) -> Counter[str]:
        """Messages by kind; one may be of several."""
        return Counter(kind for _, title, body in self.got for kind in kinds_of(title, body))


def kinds_of(title: str, body: str) -> set[str]:
    """The kinds that a reader sees in a message."""
    lines, parts = [title, *body.splitlines()], title.split(", ")
    found = {kind for kind, word in WORDS.items() if any(re.match(word, line) for line in lines)}
    for kind, word in ABOUT_WORKERS.items():
        if any(re.fullmatch(rf"(\d+ workers?|\S+\.\S+) {word}", part) for part in parts):
            # What was away and is back is told as both.
            found |= {"worker_offline", "worker_back"} if kind == "away" else {kind}
    return found


@contextmanager
def committing(settings: WriterSettings) -> Iterator[None]:
    """The writer, in a thread of its own."""
    loop = asyncio.new_event_loop()
    made: list[Writer] = []

    async def run() -> None:
        made.append(Writer(settings))
        await made[0].run()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(made[0].stop)
        thread.join()
        loop.close()


class Time:
    """The module ``time`` of a stage in our process: the day's, but for how long things take."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self, clock: Clock) -> None:
        self.time_ns = clock.time_ns

    def time(self) -> float:
        """As time.time."""
        return self.time_ns() / 1e9


@dataclass
class Town:
    """The whole system on the script's clock, and the people who listen."""

    connection: Connection
    client: Any
    clock: Clock
    run: Run
    instance: dg.DagsterInstance
    resources: dict[str, Any]
    routes: dict[str, Route]
    channels: dict[str, Any]
    heard: dict[str, Heard]
    cursor: str | None = None

    def sensor(self) -> None:
        """One tick of the alerts' sensor."""
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            repository_def=defs.get_repository_def(),
            resources={one: self.resources[one] for one in ("database", "redis_server")},
        )
        result = alerts_sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor

    def notify(self) -> None:
        """One round of the notifier, to the real channels."""
        now = self.clock.moment
        collect(self.connection, now)
        plan(self.connection, self.routes, now)
        for name, route in self.routes.items():
            deliver(self.connection, name, route, now, send)
            channel, heard = self.channels[name], self.heard[name]
            for taken in channel.taken[len(heard.got) :]:
                heard.got.append((now, *_read(taken)))


def _read(taken: Any) -> tuple[str, str]:
    if isinstance(taken, dict):
        title, body = taken.get("title", ""), taken["message"]
        if not title:  # a text of a title alone
            title, body = body, ""
    else:
        title = str(taken["subject"])
        page = taken.get_body(("html",)).get_content()
        body = re.sub(r"<[^>]+>", "\n", re.sub(r"<h2.*?</h2>", "", page))
    return title.replace("\u200b", ""), body.replace("\u200b", "")


def hours(start: datetime, first: int, last: int) -> tuple[str, str]:
    """The keys of a span of hours, counted from the day's midnight."""
    keys = [f"{start + timedelta(hours=hour):%Y-%m-%d-%H:%M}" for hour in (first, last)]
    return keys[0], keys[1]


@pytest.mark.timeout(900)
def test_a_day_of_300_workers_is_told_to_each_route_as_the_script_has_it(
    connection: Connection, client: Any, clock: Clock, run: Run, instance: dg.DagsterInstance,
    resources: dict[str, Any], database_url: str, redis_url: str, tmp_path: Path, ntfy: Web,
    hook: Web, smtp: Mail, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    start = last_monday(0) - timedelta(days=1)
    day = Day(start)
    monkeypatch.setattr("ingest.writer.store.time", Time(clock))

    async def database_now(_: object) -> int:
        return clock.time_ns() // 1000

    monkeypatch.setattr("ingest.writer.store.database_now", database_now)
    offset = tmp_path / "clock"
    environment = stage_environment(tmp_path, redis_url, database_url) | {
        "PYTHONPATH": str(ROOT / "tests/faults/wrong_clock"),
        "TBG_TEST_CLOCK": str(offset),
    }
    _set(clock, offset, start)
    connection.execute("update database_identity set made_at = %s", [start])
    answers: dict[str, Any] = {"getblockcount": {"result": 870_100}}
    confirmations = dict.fromkeys((block_hash for block_hash, _ in day.blocks), 1)
    heights = dict(day.blocks)
    answers["getblockheader"] = lambda asked: {
        "result": {"hash": asked, "height": heights[asked], "confirmations": confirmations[asked]}
    }
    answers["getblockchaininfo"] = {
        "result": {"initialblockdownload": False, "blocks": 870_100, "headers": 870_100}
    }
    with web() as archive, node(answers) as url, committing(
        WriterSettings.load(
            redis_url=redis_url, database_url=database_url, writer_metrics_port=0, flush_seconds=0.05
        )
    ), running([PYTHON, "-m", "ingest", "receiver"], tmp_path / "log", environment) as receiver:  # fmt: skip
        receiver.wait_for("listening")
        resources["bitcoin_node"] = BitcoinNode(url=url, retries=0, timeout_seconds=5)
        at = "127.0.0.1"
        town = Town(
            connection, client, clock, run, instance, resources,
            routes={
                "operator": Route(
                    to=f"mailto://{at}:{smtp.port}?smtp={at}&from=a@example.org"
                    "&to=b@example.org&mode=insecure"
                ),
                "home": Route(
                    to=f"json://{at}:{hook.port}/x", users=("bc1qhome*",), workers=("heater*",),
                    zone=BERLIN, quiet=Quiet.parse("22:00-07:00"),
                ),
                "phone": Route(to=f"ntfy://{at}:{ntfy.port}/mine", severity="critical"),
                "archive": Route(to=f"json://{at}:{archive.port}/x", kinds=KINDS_OF_ARCHIVE),
            },
            channels={"operator": smtp, "home": hook, "phone": ntfy, "archive": archive},
            heard={name: Heard() for name in ("operator", "home", "phone", "archive")},
        )  # fmt: skip
        with sending(Path(environment["SOCKET_PATH"])) as sender:
            _live(town, day, sender, offset, answers, confirmations, archive)
    # The quiet route's morning.
    clock.moment = datetime.combine(
        start.date() + timedelta(days=1), datetime.min.time(), BERLIN
    ) + timedelta(hours=7, minutes=1)
    town.notify()
    _show(town.heard)
    _judge(town.heard, day)


def _live(
    town: Town, day: Day, sender: Sender, offset: Path, answers: dict[str, Any],
    confirmations: dict[str, int], archive: Web,
) -> None:  # fmt: skip
    """Minute for minute: what the engine sends, what Dagster does when, what the notifier sees."""
    events = day.events()
    ahead: script.Event | None = next(events)
    for number, minute in enumerate(day.steps):
        now = day.start + minute * MINUTE
        _set(town.clock, offset, now)
        while ahead is not None and ahead.second < minute * 60:
            sender.send(ahead.bytes_)
            ahead = next(events, None)
        height = 860_000 + number
        sender.send(day.tip(minute * 60, height))
        asyncio.run(until(partial(_committed, town, height), "the step is committed", 60))
        if minute < 0:
            continue
        archive.status = 503 if DOWN[0] <= minute < DOWN[1] else 200
        if minute == 18 * 60 + 30:
            confirmations[day.blocks[2][0]] = -1
        if minute == 20 * 60:
            confirmations |= {block_hash: 100 for block_hash, _ in day.blocks[:2]}
        if minute == NODE_AWAY[0]:
            answers["getblockcount"] = "no JSON"
        if minute == NODE_AWAY[1]:
            answers["getblockcount"] = {"result": 870_100}
        mark_silent(town.connection, now, FALLBACK, DEBOUNCE)
        outbox.deliver(town.connection, town.client, ALERTS_STREAM)
        _dagster(town, day, minute)
        town.notify()


def _committed(town: Town, height: int) -> object:
    asked = "select height from network_blocks where height = %s"
    return town.connection.execute(asked, [height]).fetchone()


def _set(clock: Clock, offset: Path, now: datetime) -> None:
    """Moves the clock of the batch side and the notifier, of the writer and of the receiver."""
    clock.moment = now
    offset.write_text(str(now.timestamp() - time.time()))


def _dagster(town: Town, day: Day, minute: int) -> None:
    """The runs of the timetable that this day needs."""
    blocks = (300, 600, 1025, 1115, 1205, *NODE_AWAY)
    quality = {20: None, 800: (-4, 12), 850: None, 970: (13, 15), 1030: (16, 16)}
    if minute in blocks:
        town.run("confirm_blocks", raise_on_error=False)
    if minute in quality:
        if span := quality[minute]:
            town.run("hourly_rollup", *hours(day.start, *span), raise_on_error=False)
        town.run("quality", raise_on_error=False)
    if minute == 24 * 60 + 5:
        town.run("hourly_rollup", *hours(day.start, 17, 23), raise_on_error=False)
        town.run("weekly_reset", f"{day.start - timedelta(days=6):%Y-%m-%d}", raise_on_error=False)
    if minute == 24 * 60 + 10:
        town.run("daily_rollup", f"{day.start:%Y-%m-%d}", raise_on_error=False)
    if minute in blocks or minute in quality or 24 * 60 < minute < 24 * 60 + 15:
        town.sensor()


def _show(heard: dict[str, Heard]) -> None:
    """The day as people read it, and the table of docs/alerts.md (pytest -s)."""
    for name, one in heard.items():
        for moment, title, _ in one.got:
            print(f"{name:9} {moment:%a %H:%M} {title}")
    counts = {name: one.kinds() for name, one in heard.items()}
    print(f"\n| kind | {' | '.join(heard)} |\n| --- |{' --: |' * len(heard)}")
    for kind in KINDS:
        print(f"| `{kind}` | {' | '.join(str(counts[name][kind]) for name in heard)} |")
    print(f"| messages | {' | '.join(str(len(one.got)) for one in heard.values())} |")


BEST, WEEK_BEST = "New best of all time for", "New best of the week for"
HOME_BESTS = [f"{BEST} bc1qhome2: 120M", f"{BEST} bc1qhome2: 140M"]


def incidents(heard: Heard, kind: str) -> dict[str, int]:
    """By its subject, how often an incident was told; negative if an end has no beginning."""
    told = Counter(title.removeprefix("Recovered: ") for title in heard.titles(kind))
    ended = Counter(one for one in heard.titles(kind) if one.startswith("Recovered: "))
    assert max(ended.values(), default=0) <= 1, ended
    return {title.split()[-4 if "check" in title else -2]: n for title, n in told.items()}


def _judge(heard: dict[str, Heard], day: Day) -> None:
    """What the script did is what people heard: all of it, once, and nothing else."""
    assert {kind for one in heard.values() for kind in one.kinds()} == set(KINDS)
    for name, one in heard.items():
        assert max(Counter((title, body) for _, title, body in one.got).values()) == 1, name
        assert all(kinds_of(title, body) for _, title, body in one.got), name
        said = "\n".join(title + body for _, title, body in one.got)
        # Slow is no reason, and a best that changes nothing is none.
        assert "usb" not in said
        assert "1.5M" not in said
        assert "130M" not in said
    operator, home, phone, archive = (heard[n] for n in ("operator", "home", "phone", "archive"))
    _judge_workers(operator, home, archive)

    assert operator.titles("best_alltime") == [*HOME_BESTS, f"{BEST} bc1qmix3: 2G"]
    assert operator.titles("best_week") == [f"{WEEK_BEST} bc1qmix0: 1G"]
    leaders = [f"bc1q{user} leads the week now" for user in ("home2", "mix3")]
    assert operator.titles("leader") == leaders
    heights = [f"{height:,}" for _, height in day.blocks]
    assert operator.titles("block_found") == [f"Block {height} found" for height in heights]
    assert sorted(operator.titles("block_confirmed")) == [
        f"Block {height} confirmed" for height in heights[:2]
    ]
    assert operator.titles("block_orphaned") == [f"Block {heights[2]} orphaned"]
    assert len(operator.titles("weekly_result")) == 1
    (digest,) = operator.titles("daily_digest")
    assert digest.endswith(f", {sum(day.accepted.values()):,} shares")
    # Each began once and ended once, but for the hours that the script leaves out.
    loss = {"no_sequence_gaps": 2, "no_unexplained_loss": 2}
    assert incidents(operator, "ledger_loss") == loss
    # The script's bests reach the network's difficulty, and it reports no block for them.
    quality = {"partitions_are_there": 1, "reject_ratio_is_usual": 2}
    quality["solving_shares_are_blocks"] = 1
    assert incidents(operator, "data_quality") == quality
    assert incidents(operator, "system") == {"confirm_blocks": 2}

    # One owner: their own, the game's, and at night nothing but a block.
    assert home.titles("best_alltime") == [*HOME_BESTS, f"{BEST} bc1qmix3: 2G"]
    assert home.titles("block_found") == [f"Block {heights[0]} found"]
    assert home.titles("block_confirmed") == [f"Block {heights[0]} confirmed"]
    (digest,) = home.titles("daily_digest")
    shares = sum(n for user, n in day.accepted.items() if user.startswith("bc1qhome"))
    assert digest.endswith(f", {shares:,} shares")
    assert not home.kinds().keys() & {"system", "ledger_loss", "data_quality", "worker_flapping"}
    night = [title for moment, title, _ in home.got if moment.astimezone(BERLIN).hour < 7]
    assert night == home.titles("block_found")

    # Critical alone.
    assert phone.titles("block_orphaned") == operator.titles("block_orphaned")
    assert incidents(phone, "ledger_loss") == loss
    assert incidents(phone, "system") == {"confirm_blocks": 2}
    assert incidents(phone, "data_quality") == {"solving_shares_are_blocks": 1}
    assert set(phone.kinds()) == {"block_orphaned", "data_quality", "ledger_loss", "system"}

    # The channel that was down heard all that it asked for, later. It wants no blocks, so
    # their shares are bests to it.
    assert sorted(archive.titles("best_alltime")) == sorted(
        [*operator.titles("best_alltime"), f"{BEST} bc1qhall1: 60M", f"{BEST} bc1qmix1: 70M"]
    )
    assert archive.titles("best_week") == operator.titles("best_week")
    assert archive.titles("best_worker") == [f"{BEST} bc1qmix5.rig40: 5M"]
    assert sorted(archive.titles("leader")) == sorted(leaders)
    down = [day.start + minute * MINUTE for minute in DOWN]
    assert not [title for moment, title, _ in archive.got if down[0] <= moment < down[1]]
    assert [title for moment, title, _ in archive.got if moment >= down[1]]


def _judge_workers(operator: Heard, home: Heard, archive: Heard) -> None:
    gone, away = 1, len(script.HOME) + len(script.HALL)
    for heard in (operator, archive):
        assert heard.workers("worker_offline") == away + gone
        assert [title for _, title, _ in heard.got].count("bc1qgone.attic offline") == 1
    assert operator.workers("worker_back") == away
    # Few messages of an outage of a hundred, and of one who naps all day.
    assert operator.kinds()["worker_offline"] <= 10
    for napper in script.NAPPERS:
        named = [
            body
            for _, title, body in operator.got
            if napper in title + body and kinds_of(title, body) & set(WORKER_KINDS)
        ]
        assert 2 <= len(named) <= 4, named
        assert all(f"{napper} flaps: it went silent" in body for body in named)
    assert home.workers("worker_offline") == home.workers("worker_back") == len(script.HOME) - 1
    assert home.workers("away") == 1
