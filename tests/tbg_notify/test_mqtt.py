"""Home Assistant's sensors: retained messages that follow its discovery rules, on a real broker."""

import asyncio
import contextlib
import json
import re
import shutil
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiomqtt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnet.simulator.worker_name import HOSTILE
from tbg.stack.embedded import free_port
from tbg_core.settings import SettingsError
from tbg_notify.home_assistant import Miner, Topics, Worker
from tbg_notify.mqtt import Sensors
from tbg_notify.settings import NotifierSettings
from tests.processes import LIMIT, PYTHON, Process, running, until
from tests.tbg_dagster.conftest import Connection, History
from tests.tbg_notify.channels import Web
from tests.tbg_notify.test_delivery import offline

WHY_NOT: Final = "no mosquitto: sudo make -C ckpool tools installs it"
TOPICS: Final = Topics("homeassistant", "tbg", "0.1.0")

# Of home-assistant/core, homeassistant/components/mqtt: discovery.py (topics), schemas.py (device,
# origin, availability), sensor.py and binary_sensor.py (the rest).
TOPIC: Final = re.compile(
    r"homeassistant/(sensor|binary_sensor)/[a-zA-Z0-9_-]+/[a-zA-Z0-9_-]+/config"
)
KNOWN: Final = {
    "name", "unique_id", "state_topic", "value_template", "availability_topic", "device", "origin",
    "unit_of_measurement", "state_class", "device_class", "icon",
}  # fmt: skip
OF_DEVICE: Final = {"identifiers", "name", "manufacturer", "model", "via_device"}
CLASSES: Final[dict[str, set[str | None]]] = {
    "sensor": {None, "timestamp"},
    "binary_sensor": {"problem"},
}


def follows_the_rules(messages: dict[str, bytes]) -> None:
    """Checks that Home Assistant takes every message, and finds each state."""
    identifiers: list[str] = []
    devices: dict[str, dict[str, Any]] = {}
    for topic, payload in messages.items():
        assert not set(topic) & {"+", "#", "\0"}
        assert len(topic.encode()) <= 65_535
        assert topic.isprintable()
        if not topic.endswith("/config"):
            continue
        matched = TOPIC.fullmatch(topic)
        assert matched, topic
        said = json.loads(payload)
        assert said.keys() <= KNOWN
        assert said["device"].keys() <= OF_DEVICE
        assert said["origin"]["name"]
        assert all(
            isinstance(said["device"][name], str)
            for name in said["device"].keys() - {"identifiers"}
        )
        assert said["availability_topic"] == "tbg/status"
        device_class = said.get("device_class")
        assert device_class in CLASSES[matched[1]]
        assert said.get("state_class") in (None, "measurement")
        assert device_class is None or "state_class" not in said
        identifiers.append(said["unique_id"])
        [identifier] = said["device"]["identifiers"]
        assert devices.setdefault(identifier, said["device"]) == said["device"]
        [field] = re.findall(r"value_json\.(\w+)", said["value_template"])
        assert re.fullmatch(r"\{\{ [\w.' ]+ \}\}", said["value_template"])  # no stranger's text
        assert field in json.loads(messages[said["state_topic"]])
    assert len(identifiers) == len(set(identifiers))
    for device in devices.values():
        assert device.get("via_device") in {None, *devices}


NOW = datetime(2026, 11, 30, tzinfo=UTC)
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(st.dictionaries(text, st.lists(text, unique=True, max_size=3), max_size=3))
def test_any_names_follow_the_rules_and_stay_apart(names: dict[str, list[str]]) -> None:
    miners = [
        Miner(user, 1e12, None, 0.25, [Worker(name, 1e12, NOW, False) for name in workers])
        for user, workers in names.items()
    ]
    messages = TOPICS.messages(miners)
    follows_the_rules(messages)
    workers = sum(map(len, names.values()))
    assert len(messages) == 5 * len(names) + 4 * workers


def test_hostile_names_are_data() -> None:
    workers = [
        Worker(name, 1.0, None, True) for name in (*HOSTILE, "", "+", "#", "a/b", "a", "$SYS")
    ]
    messages = TOPICS.messages([Miner(name, 1.0, 1.0, 0.0, workers) for name in ("+/#", *HOSTILE)])
    follows_the_rules(messages)
    assert json.loads(messages["tbg/miners/%2B%2F%23/workers/%23"])["silent"] is True


def test_a_state_says_what_is() -> None:
    worker = Worker("rig", 2e12, NOW, False)
    messages = TOPICS.messages([Miner("bc1q", 3e12, 1e9, 0.5, [worker, worker._replace(name="b")])])
    assert json.loads(messages["tbg/miners/bc1q"]) == {
        "hash_rate": 3e12, "best_week": 1e9, "last_share": NOW.isoformat(), "odds": 50.0,
    }  # fmt: skip
    assert json.loads(messages["tbg/miners/bc1q/workers/rig"]) == {
        "hash_rate": 2e12, "last_share": NOW.isoformat(), "silent": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    "url",
    [
        "broker",
        "http://h",
        "mqtt://",
        "mqtt://u:s3cret@",
        "mqtt://u:s3cret@h:99999",
        "mqtt://h/topic",
    ],
)
def test_what_is_no_broker_is_named_without_its_password(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://x@h/d")
    monkeypatch.setenv("MQTT_URL", url)
    with pytest.raises(SettingsError, match="MQTT_URL: must look like") as error:
        NotifierSettings.load()
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("name", ["MQTT_TOPIC", "MQTT_DISCOVERY"])
def test_a_topic_of_ours_has_plain_letters(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://x@h/d")
    for wrong in ("a/b", "a+b", "#", " "):
        monkeypatch.setenv(name, wrong)
        with pytest.raises(SettingsError, match=name):
            NotifierSettings.load()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[int]:
    """The port of a broker without a login."""
    mosquitto = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
    if mosquitto is None:
        pytest.skip(WHY_NOT)
    port = free_port()
    settings = tmp_path / "mosquitto.conf"
    settings.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_packet_size 100000\n"
    )
    with running([mosquitto, "-c", str(settings)], tmp_path / "mosquitto.log") as process:
        while not reachable(port):
            assert process.popen is not None
            assert process.popen.poll() is None, process.output
        yield port


def reachable(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Listener:
    """What the broker holds, as one who subscribes sees it."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self.retained: dict[str, bytes] = {}

    async def until(self, holds: Callable[[dict[str, bytes]], bool]) -> dict[str, bytes]:
        """Takes messages until something is true of them."""
        async with asyncio.timeout(LIMIT):
            async for message in self._client.messages:
                payload = bytes(message.payload)
                if payload:
                    self.retained[str(message.topic)] = payload
                else:
                    self.retained.pop(str(message.topic), None)
                if holds(self.retained):
                    break
        return self.retained


@contextlib.asynccontextmanager
async def listening(port: int) -> AsyncIterator[Listener]:
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("#", qos=1)
        yield Listener(client)


@contextlib.asynccontextmanager
async def publishing(sensors: Sensors) -> AsyncIterator[threading.Event]:
    """Runs sensors in a thread of their own; yields what stops them, as the end of the block does."""
    stopped = threading.Event()
    thread = asyncio.create_task(asyncio.to_thread(sensors.run, stopped))
    try:
        yield stopped
    finally:
        stopped.set()
        await thread


def names_nobody_of(user: str) -> Callable[[dict[str, bytes]], bool]:
    """Whether no topic and no text has the user any more: they go one by one, in any order."""
    return lambda one: not any(user in topic + payload.decode() for topic, payload in one.items())


@contextlib.contextmanager
def notifier(database_url: str, port: int, folder: Path, **settings: str) -> Iterator[Process]:
    environment = {
        "DATABASE_URL": database_url,
        "MQTT_URL": f"mqtt://127.0.0.1:{port}",
        "NOTIFIER_METRICS_PORT": "0",
        **settings,
    }
    command = [PYTHON, "-m", "tbg.cli", "notify"]
    with running(command, folder / f"notify-{free_port()}.log", environment=environment) as process:
        yield process


@pytest.mark.plain_postgresql  # the notifier has connections of its own
async def test_a_broker_holds_what_is_and_hears_of_every_end(
    connection: Connection, history: History, database_url: str, broker: int, tmp_path: Path
) -> None:
    evil = "alice.+/#"
    for name in ("alice.garage", evil, "bob.shed"):
        history.worker(name)
    connection.execute(
        "update workers set last_share = now(), is_online = worker_name <> '+/#', hashrate_5m = 2e12"
    )
    connection.execute(
        "update users set last_seen = now(), hashrate_5m = 4e12, hashrate_24h = 4e12"
    )
    connection.execute(
        "insert into network_blocks (hash, height, network_difficulty, seen_at) "
        "values ('aa', 1, 1.2e14, now())"
    )
    garage, silent = "tbg/miners/alice/workers/garage", "tbg/miners/alice/workers/%2B%2F%23"
    # Of those that are named: two workers of one miner.
    with notifier(database_url, broker, tmp_path, MQTT_USERS="alice") as process:
        async with listening(broker) as heard:
            found = await heard.until(lambda one: len(one) == 1 + 5 + 2 * 4)
            follows_the_rules({topic: one for topic, one in found.items() if topic != "tbg/status"})
            assert found["tbg/status"] == b"online"
            assert json.loads(found[garage])["hash_rate"] == 2e12
            assert json.loads(found[silent]) | {"last_share": None} == {
                "hash_rate": 0.0, "silent": True, "last_share": None,
            }  # fmt: skip
            said = json.loads(found["tbg/miners/alice"])
            assert said["hash_rate"] == 4e12
            assert said["odds"] == pytest.approx(100 * 86_400 * 4e12 / 1.2e14 / 2**32, rel=1e-3)
            process.send(signal.SIGKILL)
            await heard.until(lambda one: one.get("tbg/status") == b"offline")
    # One who subscribes later finds it all. Who has gone is taken away.
    sensors = Sensors(database_url, f"mqtt://127.0.0.1:{broker}", TOPICS, every=0.1)
    async with listening(broker) as heard, publishing(sensors) as stopped:
        await heard.until(
            lambda one: one.get("tbg/status") == b"online" and "tbg/miners/bob" in one
        )
        assert json.loads(heard.retained[garage])["silent"] is False
        connection.execute(
            "update users set last_seen = now() - interval '8 days' where btc_address = 'bob'"
        )
        await heard.until(names_nobody_of("bob"))
        stopped.set()
        await heard.until(lambda one: one.get("tbg/status") == b"offline")
    # Also of who has gone while nobody was there to take it away; what is another's stays.
    async with aiomqtt.Client("127.0.0.1", broker) as other:
        await other.publish("homeassistant/sensor/else/x/config", b"{}", qos=1, retain=True)
    connection.execute("delete from workers where worker_name = '+/#'")
    connection.execute("update users set last_seen = now() where btc_address = 'bob'")
    sensors = Sensors(database_url, f"mqtt://127.0.0.1:{broker}", TOPICS, ["bob"], every=0.1)
    async with listening(broker) as heard, publishing(sensors):
        await heard.until(
            lambda one: "tbg/miners/bob/workers/shed" in one and names_nobody_of("alice")(one)
        )
        assert heard.retained["homeassistant/sensor/else/x/config"] == b"{}"
        assert len(heard.retained) == 2 + 5 + 4


@pytest.mark.plain_postgresql  # the notifier has connections of its own
async def test_a_broker_that_hangs_holds_up_neither_alerts_nor_the_end(
    connection: Connection, database_url: str, hook: Web, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes connections, and says nothing
        url = f"http://127.0.0.1:{hook.port}"
        port = mute.getsockname()[1]
        with notifier(database_url, port, tmp_path, ALERT_WEBHOOK_URL=url) as process:
            await asyncio.to_thread(mute.accept)
            offline(connection, ["a.1"], datetime.now(UTC))
            await until(lambda: hook.taken, "the alert")
            process.send(signal.SIGTERM)
            assert await process.ended() == 0
