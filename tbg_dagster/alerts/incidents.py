"""Incidents: what fires, what recovers. Pure: no I/O.

The state lives in the sensor's cursor, in Dagster's own storage, so that the
database or Redis being away is told as well.
"""

from typing import Any, Literal

from pydantic import BaseModel, Field

Channel = Literal["redis", "webhook", "outbox"]
# Alerts that wait for a channel which is away; beyond it the oldest goes.
MOST_WAITING = 200


class Alert(BaseModel):
    """One message: an incident began, or is over."""

    state: Literal["firing", "recovered"]
    incident: str = Field(description="what it is about: run:<job> or check:<asset>:<check>")
    id: str = Field(description="of this one incident; the same when it recovers")
    severity: Literal["WARN", "ERROR"]
    title: str
    detail: str = ""
    timestamp: int = Field(description="microseconds since the Unix epoch")


class Waiting(BaseModel):
    """An alert on its way."""

    channel: Channel
    alert: Alert


class Observation(BaseModel):
    """What was seen of one thing now."""

    incident: str
    id: str
    failing: bool
    severity: Literal["WARN", "ERROR"] = "ERROR"
    title: str
    detail: str = ""
    timestamp: int


class State(BaseModel):
    """All that the sensor remembers."""

    runs_after: float = Field(default=0.0, description="Unix time up to which runs were seen")
    seen_runs: list[str] = Field(default_factory=list, description="runs seen around that time")
    open: dict[str, Alert] = Field(default_factory=dict, description="incident → how it began")
    waiting: list[Waiting] = Field(default_factory=list)

    def observe(self, seen: Observation, channels: list[Channel]) -> None:
        """Opens or closes the incident, once, and lets the alert wait for every channel."""
        known = self.open.get(seen.incident)
        if seen.failing and known is None:
            alert = Alert(state="firing", **seen.model_dump(exclude={"failing"}))
            self.open[seen.incident] = alert
        elif not seen.failing and known is not None:
            del self.open[seen.incident]
            alert = known.model_copy(
                update={"state": "recovered", "detail": "", "timestamp": seen.timestamp}
            )
        else:
            return
        self.waiting += [Waiting(channel=channel, alert=alert) for channel in channels]
        del self.waiting[:-MOST_WAITING]


def payload(alert: Alert) -> dict[str, Any]:
    """What goes to Redis, to the webhook and to the notifier."""
    return alert.model_dump()
