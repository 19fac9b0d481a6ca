"""One message of each kind, for ``tbg alerts test``; each says that it is a test."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from tbg_notify import words
from tbg_notify.kinds import KINDS, WORKER_KINDS, Message, Worker
from tbg_notify.text import Text

_USER: Final = "bc1qtestxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
_HASH: Final = "00000000000000000000" + "ab" * 22
_BLOCK: Final[dict[str, Any]] = {
    "user": _USER, "worker": "garage", "height": 900_000, "hash": _HASH,
    "reward_sats": 312_500_000, "confirmations": 100, "new_status": "orphaned",
}  # fmt: skip
_BEST: Final[dict[str, Any]] = {
    "user": _USER, "worker": "garage", "best": 1.23e12, "rank": 1, "chance": 0.04, "hash": _HASH,
}  # fmt: skip
_INCIDENT: Final[dict[str, Any]] = {
    "state": "firing", "title": "check messages_are_sent of weekly_leaderboard fails",
    "detail": "3 messages wait for more than ten minutes",
}  # fmt: skip
_WEEK: Final[dict[str, Any]] = {
    "kind": "result", "week": "2026-W47", "entrants": 12,
    "top": [{"rank": 1, "user": _USER, "worker": "garage", "best_difficulty": 1.23e12}],
}  # fmt: skip
_DIGEST: Final = Text(
    "26 November: 1.02TH/s, 8,412 shares",
    ("No worker needs a look.",),
    table=(
        ("day (UTC)", "2026-11-26"),
        ("hash rate", "1.02TH/s (998G to 1.04T, 95 %)"),
        ("best share", "1.23T"),
    ),
)


def sample(kind: str, zone: ZoneInfo) -> Text:
    """A message of this kind as it would look."""
    now = datetime.now(UTC)
    if kind in WORKER_KINDS:
        worker = Worker(_USER, "garage", now - timedelta(minutes=12), 8)
        message = Message(0, "", (kind,), "warning", now, None, (worker,))
        text = words.workers([(message, [worker])], zone, [])
    elif kind == "daily_digest":
        text = _DIGEST
    else:
        payload = _BLOCK if kind.startswith("block") else _BEST
        payload = _WEEK if kind == "weekly_result" else payload
        payload = _INCIDENT if KINDS[kind].scope == "system" else payload
        severity = KINDS[kind].severity
        text = words.one(Message(0, "", (kind,), severity, now, _USER, (), payload), zone)
    return replace(text, title=f"Test: {text.title}")
