"""``tbg notify`` and ``tbg alerts``."""

import contextlib
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import psycopg
import structlog
from psycopg.rows import DictRow, dict_row

from tbg import outputs
from tbg.options import OfStack
from tbg.servers import connect, database_url
from tbg.stack.node import Node
from tbg.stack.state import State, state_option
from tbg_core import log, signals
from tbg_core.database import examine
from tbg_core.database_url import DatabaseError
from tbg_core.metrics_server import MetricsServer
from tbg_core.settings import SettingsError
from tbg_core.wording import counted
from tbg_notify.channel import Undelivered, send
from tbg_notify.home_assistant import Topics
from tbg_notify.kinds import KINDS, Message, Worker
from tbg_notify.mqtt import Sensors
from tbg_notify.notifier import Notifier
from tbg_notify.plan import judge, muted, remember, running_mutes
from tbg_notify.routes import Route, RoutesError, load
from tbg_notify.samples import sample
from tbg_notify.settings import NotifierSettings


@click.command("notify")
def notify() -> None:
    """Deliver alerts to people's channels, until SIGTERM.

    Reads what the batch side posted, found blocks and new bests from the database, and
    delivers by the routes in ALERTS_FILE (docs/alerts.md). Settings come from the
    environment.

    \b
    Examples:
      DATABASE_URL=postgresql://tbg@localhost/tbg ALERTS_FILE=alerts.yml tbg notify
    """
    signals.hold()
    try:
        settings = NotifierSettings.load()
        log.configure(settings.log_level, settings.log_format)
        routes = load(settings.alerts_file)
        node = None
        if settings.bitcoin_rpc_url is not None:
            login = {
                "BITCOIN_RPC_USER": settings.bitcoin_rpc_user,
                "BITCOIN_RPC_PASSWORD": settings.bitcoin_rpc_password,
                "BITCOIN_RPC_COOKIE_FILE": settings.bitcoin_rpc_cookie_file,
            }
            node = Node.named(settings.bitcoin_rpc_url, None, login)
        notifier = Notifier(
            settings.database_url,
            routes,
            settings.dagster_pg_url,
            node=node,
            disk=settings.disk_path,
            sensors=_sensors(settings),
        )
        server = MetricsServer(
            settings.metrics_host, settings.notifier_metrics_port, notifier.ready
        )
    except (SettingsError, RoutesError) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(
            f"port {settings.notifier_metrics_port} (NOTIFIER_METRICS_PORT): {error}"
        ) from None
    try:
        examine(settings.database_url)
    except DatabaseError as error:
        # The notifier waits for it, and people hear of that.
        structlog.get_logger("notify").error("the database cannot be used", error=str(error))
    for number in signals.STOP:
        signal.signal(number, lambda *_: notifier.stop())
    signals.release()
    with contextlib.closing(server):
        notifier.run()


def _sensors(settings: NotifierSettings) -> Sensors | None:
    if settings.mqtt_url is None:
        return None
    topics = Topics(settings.mqtt_discovery, settings.mqtt_topic, version("tbg-mining-data"))
    return Sensors(settings.database_url, settings.mqtt_url, topics, settings.users)


@click.group("alerts")
def alerts() -> None:
    """Test, explain and mute the alerts that people get.

    \b
    Examples:
      tbg alerts test
      tbg alerts explain bc1qexample.garage
      tbg alerts mute bc1qexample.garage --until 8h
    """


file_option = click.option(
    "--file",
    "path",
    cls=OfStack,
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="ALERTS_FILE",
    show_envvar=True,
    required=True,
    help="The routes; those of the stack if left out.",
)


def _routes(path: Path) -> dict[str, Route]:
    try:
        return load(path)
    except RoutesError as error:
        raise click.ClickException(str(error)) from None


@contextlib.contextmanager
def _database(state_path: Path) -> Iterator[psycopg.Connection[DictRow]]:
    with connect(database_url(State(state_path)), row_factory=dict_row) as connection:
        yield connection


@alerts.command("test")
@file_option
@state_option
@click.option("--route", "only", help="This route alone.")
@click.option("--kind", "kind", type=click.Choice(list(KINDS)), help="This kind alone.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON list.")
def test(
    path: Path,
    state_path: Path,  # noqa: ARG001  OfStack looks into it
    only: str | None,
    kind: str | None,
    as_json: bool,
) -> None:
    """Send one message of each kind to each route, and say what came of it.

    Exits 1 if a channel did not take one. Quiet hours and limits do not apply.

    \b
    Examples:
      tbg alerts test
      tbg alerts test --route phone --kind block_found
    """
    routes = _routes(path)
    if only is not None and only not in routes:
        raise click.BadParameter(f"there is no route {only}: {', '.join(routes) or 'none at all'}")
    results = []
    for name, route in routes.items():
        for each in KINDS:
            if (only and name != only) or (kind and each != kind):
                continue
            if not route.wants_kind(each):
                outcome = "not wanted"
            else:
                try:
                    send(route, sample(each, route.zone))
                    outcome = "sent"
                except Undelivered as error:
                    outcome = f"failed: {error}"
            results.append({"route": name, "kind": each, "outcome": outcome})
            if not as_json:
                click.echo(f"{name}: {each}: {outcome}")
    if as_json:
        outputs.show_all(outputs.AlertTest, results)
    if any(one["outcome"].startswith("failed") for one in results):
        raise SystemExit(1)


@alerts.command("explain")
@file_option
@state_option
@click.argument("worker")
@click.option("--json", "as_json", is_flag=True, help="As a JSON list.")
def explain(path: Path, state_path: Path, worker: str, as_json: bool) -> None:
    """Say what would be sent of WORKER (address.worker) now, where, and why not.

    \b
    Examples:
      tbg alerts explain bc1qexample.garage
    """
    routes, now = _routes(path), datetime.now(UTC)
    user, _, rig = worker.partition(".")
    who = Worker(user, rig, now)
    answers: list[dict[str, str]] = []
    with _database(state_path) as connection:
        mutes = running_mutes(connection, now)
        for name, route in routes.items():
            memory = remember(connection, name, route, now)
            for kind, about in KINDS.items():
                if about.scope == "worker":
                    message = Message(0, "", (kind,), about.severity, now, None, (who,))
                elif about.scope == "user":
                    message = Message(
                        0, "", (kind,), about.severity, now, user, (), {"worker": rig}
                    )
                else:
                    continue
                verdict = judge(route, message, now, memory, mutes)
                if verdict is None:
                    said = f"no: {route.refuses(message)}"
                elif verdict.state == "dropped":
                    said = f"no: {verdict.reason}"
                elif verdict.due_at > now:
                    said = (
                        f"at {verdict.due_at.astimezone(route.zone):%F %H:%M %Z}: {verdict.reason}"
                    )
                else:
                    said = "yes, at once"
                answers.append({"route": name, "kind": kind, "sent": said})
        known = connection.execute(
            "select w.is_online, w.last_share, f.naps from workers_seen w "
            "join users u on u.id = w.user_id left join worker_flaps f on f.worker_id = w.id "
            "where u.btc_address = %s and w.worker_name = %s",
            [user, rig],
        ).fetchone()
    if as_json:
        outputs.show_all(outputs.AlertAnswer, answers)
        return
    click.echo(_state_of(worker, known, muted_now=muted(who, mutes)))
    for answer in answers:
        click.echo(f"{answer['route']}: {answer['kind']}: {answer['sent']}")


def _state_of(worker: str, known: dict[str, Any] | None, *, muted_now: bool) -> str:
    if known is None:
        return f"{worker!r} was never seen: the patterns are judged by its name alone"
    last = f"{known['last_share']:%F %H:%M} UTC" if known["last_share"] else "never"
    state = "online" if known["is_online"] else "offline"
    flaps = f"; flaps ({counted(known['naps'], 'nap')} in 24 hours)" if known["naps"] else ""
    return f"{worker!r} is {state}, last share {last}{flaps}{'; muted' if muted_now else ''}"


def _until(_context: click.Context, _parameter: click.Parameter, value: str) -> datetime:
    now = datetime.now(UTC)
    units = {"m": "minutes", "h": "hours", "d": "days"}
    try:
        if value[:-1].isdecimal() and value[-1:] in units:
            moment = now + timedelta(**{units[value[-1]]: int(value[:-1])})
        else:
            moment = datetime.fromisoformat(value)
        # A time without a zone is in UTC.
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise click.BadParameter("is too far away") from None
    except ValueError:
        raise click.BadParameter("must look like 2026-12-01T08:00 (UTC), 90m, 8h or 3d") from None
    if moment <= now:
        raise click.BadParameter(f"{moment:%F %H:%M} UTC is past")
    return moment


@alerts.command("mute")
@state_option
@click.argument("worker")
@click.option("--until", required=True, callback=_until, help="A time in UTC, or 90m, 8h, 3d.")
@click.option("--all", "everything", is_flag=True, help="WORKER is an address: all its workers.")
def mute(state_path: Path, worker: str, until: datetime, everything: bool) -> None:
    """Say nothing of WORKER (address.worker) until a time. Blocks and bests are still sent.

    \b
    Examples:
      tbg alerts mute bc1qexample.garage --until 8h
      tbg alerts mute bc1qexample --all --until 2026-12-01T08:00
    """
    user, _, rig = worker.partition(".")
    with _database(state_path) as connection:
        found = connection.execute(
            "select count(*) as workers from workers w join users u on u.id = w.user_id "
            "where u.btc_address = %s and (%s or w.worker_name = %s)",
            [user, everything, rig],
        ).fetchone()
        assert found is not None
        if not found["workers"]:
            raise click.ClickException(
                f"there is no worker {worker!r}: write it as address.worker, as tbg status does"
            )
        connection.execute(
            "insert into alert_mutes (btc_address, worker, all_workers, until) "
            "values (%s, %s, %s, %s) on conflict (btc_address, worker, all_workers) "
            "do update set until = excluded.until",
            [user, "" if everything else rig, everything, until],
        )
    click.echo(f"{worker!r} is muted until {until:%F %H:%M} UTC")
