"""Tunable limits, each from ``TBG_<NAME>``."""

from datetime import datetime, timedelta

import dagster as dg
from pydantic import Field

from tbg_core.periods import midnight
from tbg_core.proof import SIGNATURE
from tbg_dagster.resources.environment import variable_of


class Thresholds(dg.ConfigurableResource):  # type: ignore[type-arg]  # yields itself
    """Limits and delays."""

    retention_days: int = Field(
        default=90,
        description="how old shares may be and still count; raw shares are kept by whole weeks, "
        "until the last of a week is older",
        json_schema_extra={"variable": "RETENTION_DAYS"},
    )
    partitions_ahead_days: int = Field(
        default=7, description="partitions made before their day begins"
    )
    confirmations: int = Field(default=100, description="that make a block final")
    reject_grace_minutes: int = Field(
        default=30, description="until a block that the node has never heard of is rejected"
    )
    leaderboard_keep_days: int = Field(
        default=35,
        description="how long a closed week's leaderboard stays in Redis",
        json_schema_extra={"variable": "LEADERBOARD_DAYS"},
    )
    liveness_fallback_seconds: int = Field(
        default=600, description="silence allowed to a worker of unknown hashrate"
    )
    liveness_debounce_seconds: int = Field(
        default=300,
        description="seconds that a worker must be silent, or back, before it is reported",
    )
    recent_hours: int = Field(
        default=1, description="how far back the row-by-row checks of shares look"
    )
    sampled_hours: int = Field(
        default=24, description="older hours whose rollup is compared with raw shares"
    )
    gap_days: int = Field(default=7, description="how long a sequence gap of an engine is reported")
    stream_lag_warn_seconds: int = Field(default=60, description="of the slowest writer")
    stream_lag_error_seconds: int = Field(default=600, description="of the slowest writer")
    dead_letters_per_hour: int = Field(default=100, description="allowed before a warning")
    dead_letter_keep_days: int = Field(default=30, description="how long they are kept")
    outbox_keep_days: int = Field(default=90, description="how long sent messages are kept")
    coinbase_signature: str = Field(
        default=SIGNATURE,
        description="the signature in the pool's coinbases, or what it begins with; "
        "several (a pool that was renamed) between commas",
    )
    week_wait_hours: int = Field(
        default=6,
        description="how long a closed week waits for writers that are behind, "
        "before its result is published as incomplete",
    )
    run_keep_days: int = Field(
        default=7, description="Dagster runs without partitions, and their event logs"
    )
    partition_run_keep_days: int = Field(
        default=120, description="Dagster runs of partitions, and their event logs"
    )

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002  # Dagster's signature
        """Refuses what no window or limit can be. (A field's own bounds would refuse ``EnvVar``.)"""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, str):
                continue
            if value < 0 or (value == 0 and name.endswith("_days")):
                variable = variable_of(type(self), name, "TBG_")
                raise dg.Failure(f"{variable} is {value}, which is too small")

    def horizon(self, now: datetime) -> datetime:
        """Monday 00:00 (UTC) from which on raw shares are kept, and everything is computed.

        The writer accepts shares of ``retention_days``. Whole weeks are kept, so that each of
        them can still change the hours, the days and the week that it belongs to.
        """
        oldest = now.date() - timedelta(days=self.retention_days)
        return midnight(oldest - timedelta(days=oldest.weekday()))
