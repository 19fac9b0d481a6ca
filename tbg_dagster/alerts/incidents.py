"""Incidents: what fires, what recovers. Pure: no I/O.

The state lives in the sensor's cursor, in Dagster's own storage, so that the
database or Redis being away is told as well.
"""

from typing import Literal

from pydantic import BaseModel, Field

Channel = Literal["redis", "webhook", "outbox"]
# Alerts that wait for a channel which is away; beyond it the oldest goes.
MOST_WAITING = 200


class Alert(BaseModel):
    """What is seen of one thing now; a message when it differs from what was seen before."""

    state: Literal["firing", "recovered"]
    incident: str = Field(description="what it is about: run:<job> or check:<asset>:<check>")
    id: str = Field(description="of this one incident; the same when it recovers")
    severity: Literal["WARN", "ERROR"] = "ERROR"
    title: str
    detail: str = ""
    timestamp: int = Field(description="microseconds since the Unix epoch")


class Waiting(BaseModel):
    """An alert on its way."""

    channel: Channel
    alert: Alert


class State(BaseModel):
    """All that the sensor remembers."""

    runs_after: float = Field(default=0.0, description="Unix time up to which runs were seen")
    seen_runs: list[str] = Field(default_factory=list, description="runs seen around that time")
    open: dict[str, Alert] = Field(default_factory=dict, description="incident → how it began")
    waiting: list[Waiting] = Field(default_factory=list)

    def observe(self, seen: Alert, channels: list[Channel]) -> None:
        """Opens or closes the incident, once, and lets the alert wait for every channel."""
        known = self.open.get(seen.incident)
        if (seen.state == "firing") == (known is not None):
            return
        if known is None:
            self.open[seen.incident] = alert = seen
        else:
            del self.open[seen.incident]
            alert = known.model_copy(
                update={"state": "recovered", "detail": "", "timestamp": seen.timestamp}
            )
        self.waiting += [Waiting(channel=channel, alert=alert) for channel in channels]
        del self.waiting[:-MOST_WAITING]
