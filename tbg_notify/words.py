"""What each message says. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from tbg_core.wording import counted, percent, shortened, si
from tbg_notify.kinds import Message, Worker
from tbg_notify.text import Text, name

NAMED: Final = 20  # workers or messages in one text; the rest is counted


def short(address: str) -> str:
    """An address, short enough to read and still distinct."""
    return shortened(name(address, 128))


def worker_name(worker: Worker) -> str:
    """A worker as ``tbg status`` has it, with its address shortened."""
    return f"{short(worker.user)}.{name(worker.worker)}" if worker.worker else short(worker.user)


def _clock(moment: datetime, zone: ZoneInfo) -> str:
    return f"{moment.astimezone(zone):%H:%M %Z}"


def day_and_clock(moment: datetime, zone: ZoneInfo) -> str:
    """A moment on the clocks of a zone."""
    return f"{moment.astimezone(zone):%d %B %H:%M %Z}"


def some(names: Sequence[str]) -> list[str]:
    """The first few, and how many more."""
    rest = len(names) - NAMED
    return [*names[:NAMED], *([f"and {rest:,} more"] if rest > 0 else [])]


def workers(
    messages: Iterable[tuple[Message, Sequence[Worker]]], zone: ZoneInfo, capped: Sequence[str]
) -> Text:
    """Everything about workers that is due on a route, as one text.

    Args:
        messages: in order, each with the workers that the route is about.
        capped: keys of workers of which nothing more is sent on this day.
    """
    offline: dict[str, Worker] = {}
    back: dict[str, Worker] = {}
    short_absences: dict[str, Worker] = {}
    flapping: dict[str, Worker] = {}
    for message, named in messages:
        for worker in named:
            if "worker_offline" in message.kinds:
                back.pop(worker.key, None)
                offline[worker.key] = worker
            elif "worker_back" in message.kinds:
                if offline.pop(worker.key, None) is None:
                    back[worker.key] = worker
                else:
                    short_absences[worker.key] = worker
            else:
                flapping[worker.key] = worker
    titles, lines = [], []
    for found, word in ((offline, "offline"), (back, "back"), (short_absences, "away and back")):
        if found:
            titles.append(f"{counted(len(found), 'worker')} {word}")
            lines += some([_line(one, word, zone) for one in found.values()])
    if flapping:
        titles.append(f"{counted(len(flapping), 'worker')} flapping")
        lines += some(
            [
                f"{worker_name(one)} flaps: it went silent {counted(one.naps or 0, 'time')} in 24 hours, "
                "and came back each time"
                for one in flapping.values()
            ]
        )
    if len(offline) + len(back) + len(short_absences) + len(flapping) == 1:
        (only,) = (offline | back | short_absences | flapping).values()
        titles = [f"{worker_name(only)} {titles[0].split(' ', 2)[2]}"]
    if capped:
        lines += some([f"Nothing more about {key} today: its limit is reached" for key in capped])
    action = ""
    if offline:
        action = (
            "Check its power and network."
            if len(offline) == 1
            else "Check what they share: power, network, pool."
        )
    elif flapping:
        whose = "its" if len(flapping) == 1 else "their"
        action = f"Check {whose} Wi-Fi, power supply and temperature; a mute ends these messages."
    return Text(", ".join(titles), tuple(lines), action)


def _line(worker: Worker, word: str, zone: ZoneInfo) -> str:
    since = f" since {_clock(worker.silent_since, zone)}" if worker.silent_since else ""
    return {
        "offline": f"{worker_name(worker)}: silent{since}",
        "back": f"{worker_name(worker)}: back; was silent{since}",
        "away and back": f"{worker_name(worker)}: was silent{since}, and is back",
    }[word]


def one(message: Message, zone: ZoneInfo) -> Text:
    """A message that stands by itself."""
    payload, kind = message.payload, message.kinds[0]
    match kind:
        case "block_found" | "block_confirmed" | "block_orphaned":
            return _block(kind, message, zone)
        case "best_alltime" | "best_worker" | "best_week" | "leader":
            return _best(message, zone)
        case "weekly_result":
            return _week(payload)
        case _:
            return _incident(payload)


def _block(kind: str, message: Message, zone: ZoneInfo) -> Text:
    payload = message.payload
    height = f"{payload['height']:,}"
    reward = f"Reward: {payload['reward_sats'] / 1e8:.8f} BTC (fees included), to {short(payload['user'])}"
    lines = [f"Hash: {payload['hash']}", reward]
    if kind == "block_found":
        lines.append(f"Found on {day_and_clock(message.at, zone)} by {_finder(payload)}")
        return Text(f"Block {height} found", tuple(lines), "It is final after 100 confirmations.")
    if kind == "block_confirmed":
        lines.append(f"{payload['confirmations']:,} confirmations")
        return Text(f"Block {height} confirmed", tuple(lines))
    new = payload["new_status"]
    if new == "accepted":
        return Text(f"Block {height} is back on the chain", tuple(lines))
    why = {
        "orphaned": "Another chain has overtaken it. It counts again if that chain is left.",
        "rejected": "The node has never heard of it. Check the node's log and the engine's.",
    }[new]
    return Text(f"Block {height} {new}", tuple(lines), why)


def _finder(payload: Mapping[str, Any]) -> str:
    return worker_name(Worker(payload["user"], payload.get("worker") or ""))


def _best(message: Message, zone: ZoneInfo) -> Text:
    payload = message.payload
    who = short(payload["user"])
    difficulty = si(payload["best"], 4)
    titles = {
        "best_alltime": f"New best of all time for {who}: {difficulty}",
        "best_worker": f"New best of all time for {_finder(payload)}: {difficulty}",
        "best_week": f"New best of the week for {who}: {difficulty}",
        "leader": f"{who} leads the week: {difficulty}",
    }
    lines = [f"Found at {_clock(message.at, zone)} by {_finder(payload)}"]
    if payload.get("rank"):
        lines.append(f"Rank {payload['rank']} of the week")
    if "leader" in message.kinds and message.kinds[0] != "leader":
        lines.append(f"{who} leads the week now")
    if "best_worker" in message.kinds and message.kinds[0] in ("best_week", "leader"):
        lines.append("The worker's best of all time")
    if payload.get("chance") is not None:
        span = "so far" if message.kinds[0] == "best_worker" else "this week"
        lines.append(
            f"Chance of doing as well or better {span}, for the work done: "
            f"{percent(payload['chance'])}"
        )
    if payload.get("hash"):
        lines.append(f"Hash: {payload['hash']}")
    return Text(titles[message.kinds[0]], tuple(lines))


def _week(payload: Mapping[str, Any]) -> Text:
    corrected = payload.get("kind") == "correction"
    title = f"Week {payload['week']}: {'corrected result' if corrected else 'the result'}"
    lines = [f"{counted(payload['entrants'], 'entrant')}"]
    lines += [
        f"{row['rank']}. {_finder(row)}: {si(row['best_difficulty'], 4)}"
        for row in payload["top"][:5]
    ]
    return Text(title, tuple(lines))


def _incident(payload: Mapping[str, Any]) -> Text:
    title, detail = name(payload["title"], 200), name(payload.get("detail") or "", 400)
    if payload["state"] == "recovered":
        return Text(f"Recovered: {title}")
    return Text(title, (detail,) if detail else (), "tbg status and the Dagster page say more.")


def several(messages: Sequence[Message], zone: ZoneInfo) -> Text:
    """Many messages of one kind, as one."""
    texts = [one(message, zone).title for message in messages]
    kind = messages[0].kinds[0].replace("_", " ")
    return Text(f"{len(texts)} messages: {kind}", tuple(some(texts)))
