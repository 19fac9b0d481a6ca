"""A day of a mixed fleet of 300 workers: what people hear of it, and why."""

from collections import Counter
from datetime import timedelta

from tbg.notify.collect import collect
from tbg.notify.delivery import deliver
from tbg.notify.kinds import read
from tbg.notify.plan import plan
from tbg.notify.routes import Route
from tbg.notify.text import Text
from tbg_dagster.workers.liveness import mark_silent
from tests.tbg.notify.test_delivery import ALL, DEBOUNCE, FALLBACK, NOW
from tests.tbg_dagster.conftest import Connection, History

MINUTE, DAY = timedelta(minutes=1), 24 * 60
START = NOW.replace(hour=0)
STEADY = [f"bc1qsteady{n % 40}.rig{n}" for n in range(240)]
SLOW = [f"bc1qslow{n}.usb" for n in range(45)]  # a share in four minutes
NAPPERS = [f"bc1qnap{n}.wifi" for n in range(5)]  # mine 8 minutes, nap 6
NIGHT = [f"bc1qnight{n}.heater" for n in range(9)]  # off from 00:00 to 06:00
GONE = ["bc1qgone.attic"]  # from 14:00 on
OUTAGE = range(10 * 60, 10 * 60 + 40)  # the steady ones of one half


def mines(name: str, minute: int) -> bool:
    """Whether a worker is there in a minute of the day."""
    if name in NAPPERS:
        return minute % 14 < 8
    if name in NIGHT:
        return minute >= 6 * 60
    if name in GONE:
        return minute < 14 * 60
    if minute in OUTAGE and name in STEADY[:120]:
        return False
    return name not in SLOW or minute % 4 == 0


def test_a_day_of_300_workers_is_a_few_messages_each_for_a_reason(
    connection: Connection, history: History
) -> None:
    fleet = [*STEADY, *SLOW, *NAPPERS, *NIGHT, *GONE]
    assert len(fleet) == 300
    numbers = {name: history.worker(name)[1] for name in fleet}
    connection.execute(
        "update workers set last_share = %s, is_online = true, current_diff = 1000, "
        "hashrate_1h = 1000 * 2.0^32 / case when worker_name = 'usb' then 240 else 5 end",
        [START - MINUTE],
    )
    texts: list[Text] = []
    kinds: Counter[str] = Counter()

    def send(_route: Route, text: Text) -> None:
        texts.append(text)

    for minute in range(DAY):
        now = START + minute * MINUTE
        active = [numbers[name] for name in fleet if mines(name, minute)]
        connection.execute(
            "update workers set is_online = true, last_share = %s where id = any(%s)",
            [now, active],
        )
        if minute == 17 * 60:
            history.block(STEADY[0], 900_001, "ab" * 32, now)
        if minute % 5 == 0:
            mark_silent(connection, now, FALLBACK, DEBOUNCE)
        collect(connection, now)
        plan(connection, {"phone": ALL}, now)
        before = len(texts)
        deliver(connection, "phone", ALL, now, send)
        for text in texts[before:]:
            print(f"{now:%H:%M}", text.title)  # what a person reads, with pytest -s
    for row in connection.execute(
        "select o.* from alert_deliveries d join outbox o on o.id = d.message_id "
        "where d.state = 'sent'"
    ):
        message = read(row)
        assert message is not None
        kinds.update(message.kinds)
    print(dict(kinds), len(texts))
    said = "\n".join("\n".join([text.title, *text.lines]) for text in texts)
    # Each for a reason; a slow miner is no reason.
    assert "usb" not in said
    assert [text.title for text in texts].count("Block 900,001 found") == 1
    assert "120 workers offline" in said
    assert "bc1qgone.attic offline" in said
    assert set(kinds) == {"worker_offline", "worker_back", "worker_flapping", "block_found"}
    # Of each that naps all day: that it flaps, not each nap.
    assert all(f"{name} flaps" in said for name in NAPPERS)
    flapping = [text for text in texts if text.title == "5 workers flapping"]
    assert flapping[0].action.startswith("Check their Wi-Fi")
    assert len(texts) <= 12
