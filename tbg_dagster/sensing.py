"""Sensors: on from the start, and described in the UI by what their docstring says."""

import inspect
from collections.abc import Callable
from typing import Any

import dagster as dg


def sensor(**options: Any) -> Callable[[Callable[..., Any]], dg.SensorDefinition]:
    """As ``dagster.sensor``, which shows no docstring."""

    def defined(evaluate: Callable[..., Any]) -> dg.SensorDefinition:
        return dg.sensor(
            description=inspect.getdoc(evaluate),
            default_status=dg.DefaultSensorStatus.RUNNING,
            **options,
        )(evaluate)

    return defined
