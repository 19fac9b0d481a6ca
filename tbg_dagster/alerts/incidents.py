"""Incidents: what fires, what recovers. Pure: no I/O.

The state lives in the sensor's cursor, in Dagster's own storage, so that the
database or Redis being away is reported as well.
"""

from collections.abc import Collection, Iterable
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, field_validator

from tbg_core.messages import Incident

Channel = Literal["redis", "outbox"]
# Alerts that wait for a channel which is away: two or three megabytes of Dagster's storage.
# Beyond it the oldest goes, and is counted.
MOST_WAITING = 5000


class Alert(Incident):
    """What is seen of one thing now; a message when it differs from what was seen before."""

    id: str
    timestamp: int

    def payload(self) -> dict[str, Any]:
        """Every field, those with their default too."""
        return self.model_dump(mode="json")


class Waiting(BaseModel):
    """An alert on its way."""

    channel: Channel
    alert: Alert
    worse: bool = Field(default=False, description="it fires again, as an error")

    @property
    def key(self) -> str:
        """By which each is sent once."""
        return f"alert:{self.alert.id}:{self.alert.state}" + (":worse" if self.worse else "")


class State(BaseModel):
    """All that the sensor remembers."""

    runs_after: float = Field(default=0.0, description="Unix time up to which runs were seen")
    seen_runs: list[str] = Field(default_factory=list, description="runs seen around that time")
    open: dict[str, Alert] = Field(default_factory=dict, description="incident → how it began")
    partitions: dict[str, list[str]] = Field(
        default_factory=dict, description="run's incident → partitions that have not succeeded"
    )
    waiting: list[Waiting] = Field(default_factory=list)
    dropped: int = Field(default=0, description="alerts that waited when too many did")

    @field_validator("waiting", mode="before")
    @classmethod
    def _of_known_channels(cls, value: Any) -> Any:
        # An earlier version had a webhook of its own.
        known = get_args(Channel)
        return [one for one in value if isinstance(one, Waiting) or one["channel"] in known]

    def observe(self, seen: Alert, channels: list[Channel]) -> None:
        """Opens or closes the incident, once, and lets the alert wait for every channel.

        One that was a warning fires again, once, when it becomes an error.
        """
        known = self.open.get(seen.incident)
        firing = seen.state == "firing"
        worse = bool(known and firing and (known.severity, seen.severity) == ("WARN", "ERROR"))
        if firing == (known is not None) and not worse:
            return
        if known is None:
            self.open[seen.incident] = alert = seen
        elif firing:
            self.open[seen.incident] = alert = seen.model_copy(update={"id": known.id})
        else:
            self.forget(seen.incident)
            alert = known.model_copy(
                update={"state": "recovered", "detail": "", "timestamp": seen.timestamp}
            )
        self.waiting += [Waiting(channel=channel, alert=alert, worse=worse) for channel in channels]
        self.dropped += max(0, len(self.waiting) - MOST_WAITING)
        del self.waiting[:-MOST_WAITING]

    def forget(self, incident: str) -> None:
        """Ends an incident without a message."""
        self.open.pop(incident, None)
        self.partitions.pop(incident, None)

    def fail(self, seen: Alert, partitions: Collection[str], channels: list[Channel]) -> None:
        """Opens a run's incident: it is over when each of the partitions has succeeded."""
        self.observe(seen, channels)
        left = self.partitions.get(seen.incident, [])
        self.partitions[seen.incident] = sorted({*left, *partitions})

    def succeed(
        self, job: str, partitions: Collection[str], timestamp: int, channels: list[Channel]
    ) -> None:
        """Takes partitions that have succeeded from the job's incidents, and closes those done."""
        for incident in list(self._of(job)):
            left = set(self.partitions.get(incident, [])) - set(partitions)
            self.partitions[incident] = sorted(left)
            if left:
                continue
            over = self.open[incident].model_copy(
                update={"state": "recovered", "timestamp": timestamp}
            )
            self.observe(over, channels)

    def _of(self, job: str) -> Iterable[str]:
        mine = f"run:{job}"
        return [one for one in self.open if one == mine or one.startswith(f"{mine}:")]
