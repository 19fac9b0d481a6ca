"""The notifier's threads: one that reads and plans, one for each route, and one for sensors.

A channel that hangs holds its own thread alone. Each thread has a connection of its own,
and opens it again when the database went away.
"""

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol

import psycopg
import structlog
from prometheus_client import Counter, Gauge
from psycopg.rows import DictRow, dict_row

from tbg_core.dagster_health import Findings, look
from tbg_core.database import open_connection
from tbg_core.disk import disk_trouble, free_ratio
from tbg_notify.channel import send
from tbg_notify.collect import collect
from tbg_notify.delivery import deliver
from tbg_notify.memory import Memory
from tbg_notify.mqtt import Sensors
from tbg_notify.plan import plan
from tbg_notify.routes import Route
from tbg_notify.text import Text
from tbg_notify.watch import watch

LOOK_SECONDS: Final = 2.0
WATCH_SECONDS: Final = 30.0  # a part of Dagster's daemon beats as often
NODE_SILENT: Final = 120.0  # seconds without an answer until people hear of it
# Without a database nothing can be planned: this is sent from memory.
DATABASE_AWAY: Final = timedelta(seconds=60)

SENT: Final = Counter("tbg_alerts_sent_total", "Messages that a channel has taken", ["route"])
DROPPED: Final = Counter(
    "tbg_alerts_dropped_total", "Messages not sent because of quiet hours or rate limits", ["route"]
)
GIVEN_UP: Final = Counter("tbg_alerts_failed_total", "Messages given up after days", ["route"])
REFUSALS: Final = Counter(
    "tbg_alerts_refusals_total", "Times that a channel did not take a message", ["route"]
)
SET_ASIDE: Final = Counter(
    "tbg_alerts_set_aside_total",
    "Messages that could not be put into words, kept as dead letters",
    ["route"],
)
WAITING: Final = Gauge("tbg_alerts_waiting", "Messages that wait", ["route"])
DELAY: Final = Gauge("tbg_alerts_due_seconds", "Age of a route's oldest due message", ["route"])

NODE_UNANSWERED: Final = Gauge(
    "tbg_node_unanswered_seconds", "Time since the Bitcoin node answered last"
)
DISK_FREE: Final = Gauge("tbg_disk_free_ratio", "Free part of the disk that DISK_PATH is on")

logger: structlog.stdlib.BoundLogger = structlog.get_logger("notify")


class Watched(Protocol):
    """What can say whether it is well."""

    def trouble(self) -> str | None:
        """Returns what is wrong; None if nothing is."""


class Notifier:
    """Runs until :meth:`stop`.

    Args:
        database_url: PostgreSQL.
        routes: by name; none is allowed, messages are then planned for nobody.
        dagster_url: Dagster's own database; without it nobody watches its daemon.
        node: is asked whether it answers; without it the node is not watched.
        disk: a folder on the disk whose room is watched.
        sensors: what a broker gets, in a thread of its own.
    """

    def __init__(
        self,
        database_url: str,
        routes: Mapping[str, Route],
        dagster_url: str | None = None,
        *,
        node: Watched | None = None,
        disk: Path | None = None,
        sensors: Sensors | None = None,
    ) -> None:
        self._node = node
        self._sensors = sensors
        self._disk = disk
        self._node_answered = time.monotonic()
        self._url = database_url
        self._routes = routes
        self._dagster_url = dagster_url
        self._began = self._watched = time.monotonic()
        self._stopped = threading.Event()
        self._looked: datetime | None = None
        self._away_since: datetime | None = None
        self._told_away = False
        self._memory = Memory(routes)

    def stop(self) -> None:
        """Requests shutdown; what is being sent is finished."""
        self._stopped.set()

    def ready(self) -> tuple[bool, str]:
        """Whether it read the outbox lately."""
        if self._looked and datetime.now(UTC) - self._looked < DATABASE_AWAY:
            return True, "reads the outbox"
        return False, "has not read the outbox"

    def run(self) -> None:
        """Reads, plans and delivers until stopped."""
        threads = [
            threading.Thread(target=self._serve, args=(name, route), name=f"route {name}")
            for name, route in self._routes.items()
        ]
        if self._sensors is not None:
            threads.append(
                threading.Thread(target=self._sensors.run, args=[self._stopped], name="sensors")
            )
        for thread in threads:
            thread.start()
        logger.info("ready", routes=sorted(self._routes))
        self._repeat(self._look, watch=True)
        for thread in threads:
            thread.join()

    def _serve(self, name: str, route: Route) -> None:
        counters = (SENT, DROPPED, GIVEN_UP, REFUSALS, SET_ASIDE)
        sent, dropped, given_up, refusals, aside = (one.labels(name) for one in counters)

        def round_(connection: psycopg.Connection[DictRow]) -> None:
            result = deliver(connection, name, route, datetime.now(UTC), send)
            sent.inc(result.sent)
            dropped.inc(result.dropped)
            given_up.inc(result.failed)
            aside.inc(result.unreadable)
            if result.sent:
                logger.info("sent", route=name, messages=result.sent)
            if result.error:
                refusals.inc()
                logger.warning("the channel took nothing", route=name, answer=result.error)

        self._repeat(round_)

    def _look(self, connection: psycopg.Connection[DictRow]) -> None:
        now = datetime.now(UTC)
        if self._looked is None:
            connection.execute(
                "delete from alert_targets where route <> all(%s)", [list(self._routes)]
            )
        collect(connection, now)
        if time.monotonic() - self._watched >= WATCH_SECONDS:
            self._watched = time.monotonic()
            dagster = Findings()
            if self._dagster_url:
                dagster = look(self._dagster_url, self._watched - self._began)
            watch(connection, dagster, now, self.machine())
        for (name, state), messages in plan(connection, self._routes, now).items():
            logger.info("planned", route=name, state=state, messages=messages)
            if state == "not understood":
                SET_ASIDE.labels(name).inc(messages)
            if state == "dropped":
                DROPPED.labels(name).inc(messages)
        rows = connection.execute(
            "select route, count(*) as waiting, "
            "greatest(extract(epoch from %s - min(due_at)), 0)::double precision as delay "
            "from alert_deliveries where state = 'waiting' group by 1",
            [now],
        ).fetchall()
        found = {row["route"]: row for row in rows}
        for name in self._routes:
            row: Mapping[str, Any] = found.get(name, {"waiting": 0, "delay": 0.0})
            WAITING.labels(name).set(row["waiting"])
            DELAY.labels(name).set(row["delay"])
        self._looked = now

    def machine(self) -> dict[str, list[str]]:
        """What is wrong with the node and the disk, of those that are watched."""
        found: dict[str, list[str]] = {}
        if self._node is not None:
            trouble = self._node.trouble()
            if trouble is None:
                self._node_answered = time.monotonic()
            silent = time.monotonic() - self._node_answered
            NODE_UNANSWERED.set(silent)
            found["node"] = [trouble] if trouble and silent >= NODE_SILENT else []
        if self._disk is not None:
            DISK_FREE.set(free_ratio(self._disk))
            found["disk"] = [trouble] if (trouble := disk_trouble(self._disk)) else []
        return found

    def _repeat(self, step: Any, *, watch: bool = False) -> None:
        """Takes steps with a connection, and connects again after a failure of it."""
        while not self._stopped.is_set():
            try:
                with open_connection(
                    self._url, application="tbg_notify", row_factory=dict_row
                ) as connection:
                    while not self._stopped.is_set():
                        step(connection)
                        if watch:
                            self._database(there=True)
                        self._stopped.wait(LOOK_SECONDS)
            except psycopg.Error as error:
                logger.warning("the database did not serve", error=str(error).strip())
                if watch:
                    self._database(there=False)
                self._stopped.wait(LOOK_SECONDS)
            except Exception:
                # One message that nobody foresaw must not silence the others for good.
                logger.exception("a step failed; it is repeated")
                self._stopped.wait(10 * LOOK_SECONDS)

    def _database(self, *, there: bool) -> None:
        """Says that the database is away, and that it is back: without it, once each."""
        now = datetime.now(UTC)
        if there:
            if self._told_away:
                self._memory.end(Text("Recovered: the database answers again"))
            self._away_since, self._told_away = None, False
        else:
            self._away_since = self._away_since or now
            if not self._told_away and now - self._away_since >= DATABASE_AWAY:
                since = f"It has not answered since {self._away_since:%H:%M} UTC."
                action = "Check it: shares wait in Redis meanwhile, and other messages too."
                self._memory.begin(Text("The database does not answer", (since,), action))
                self._told_away = True
        self._memory.send(now)
