"""The result of a check."""

import time
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from typing import Any, TypeVar

import dagster as dg

from tbg_core.wording import LONGEST, printable
from tbg_dagster import clock
from tbg_dagster.failing import first_failure

WARN = dg.AssetCheckSeverity.WARN
ERROR = dg.AssetCheckSeverity.ERROR

# Seconds. Events of one engine travel in several streams, and the writer commits to PostgreSQL
# before it updates Redis. A mismatch must last longer than this to count.
SETTLE_SECONDS = 3.0

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


def verdict(
    passed: bool,
    description: str,
    severity: dg.AssetCheckSeverity = ERROR,
    *,
    do: str = "",
    simulated: bool = False,
    **metadata: Any,
) -> dg.AssetCheckResult:
    """A result that says what was found, passed or not; if not, since when, and what to do.

    Args:
        do: what a person does about it, without a full stop.
        simulated: whether it fails for what is simulated alone: that is said first, and no ERROR.
    """
    if simulated and not passed:
        description, severity = f"simulated: {description}", WARN
    if not passed:
        ending = f".{_since()} {do}."
        description = printable(description, LONGEST - len(ending)) + ending
    # Names of strangers stand in it, and Dagster logs it.
    return dg.AssetCheckResult(
        passed=bool(passed),
        severity=severity,
        description=printable(description),
        metadata={name: _clean(value) for name, value in metadata.items()},
    )


def _since() -> str:
    """When the check that runs failed first, of all its failures without a success between."""
    try:
        context = dg.AssetCheckExecutionContext.get()
    except dg.DagsterInvariantViolationError:
        return ""  # called outside a run
    [spec] = context.check_specs
    first = first_failure(context.instance, spec.key)
    since = datetime.fromtimestamp(first.create_timestamp, UTC) if first else clock.now()
    return f" Since {since:%F %H:%M} UTC."


def _clean(value: Any) -> Any:
    if isinstance(value, list):
        return [_clean(one) for one in value]
    return printable(value) if isinstance(value, str) else value


def lasting(look: Callable[[], dict[Key, Value]]) -> dict[Key, Value]:
    """What two looks, a few seconds apart, both find; the second look's values and order."""
    found = look()
    if not found:
        return found
    time.sleep(SETTLE_SECONDS)
    return {key: value for key, value in look().items() if key in found}
