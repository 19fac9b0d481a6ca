"""The result of a check."""

from typing import Any

import dagster as dg

WARN = dg.AssetCheckSeverity.WARN
ERROR = dg.AssetCheckSeverity.ERROR


def verdict(
    passed: bool, description: str, severity: dg.AssetCheckSeverity = ERROR, **metadata: Any
) -> dg.AssetCheckResult:
    """A result that says what was found, passed or not."""
    return dg.AssetCheckResult(
        passed=bool(passed), severity=severity, description=description, metadata=metadata
    )
