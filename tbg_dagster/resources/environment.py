"""Resources from environment variables, with defaults for unset ones."""

import os
from typing import TypeVar

import dagster as dg

Resource = TypeVar("Resource", bound=dg.ConfigurableResource)  # type: ignore[type-arg]  # generic over what it yields, which does not matter here


def from_environment(resource: type[Resource], prefix: str) -> Resource:
    """Makes ``resource``, each field from ``<prefix><FIELD>`` where that is set.

    The value itself is read when a run starts (``EnvVar``), so that the UI shows
    the variable's name and never what it holds. Required fields are always read
    from the environment, and Dagster names the one that is missing.
    """
    given = {}
    for name, field in resource.model_fields.items():
        variable = f"{prefix}{name.upper()}"
        if field.is_required() or os.environ.get(variable):
            number = field.annotation is int
            given[name] = dg.EnvVar.int(variable) if number else dg.EnvVar(variable)
    return resource(**given)
