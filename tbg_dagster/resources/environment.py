"""Resources from environment variables, with defaults for unset ones."""

import os
from typing import TypeVar

import dagster as dg

Resource = TypeVar("Resource", bound=dg.ConfigurableResource)  # type: ignore[type-arg]  # generic over what it yields, which does not matter here


def variable_of(resource: type[dg.ConfigurableResource], name: str, prefix: str) -> str:  # type: ignore[type-arg]  # as above
    """The environment variable of a field."""
    extra = resource.model_fields[name].json_schema_extra
    return str(extra["variable"]) if isinstance(extra, dict) else f"{prefix}{name.upper()}"


def from_environment(resource: type[Resource], prefix: str) -> Resource:
    """Makes ``resource``, each field from ``<prefix><FIELD>`` if that is set.

    A field whose fact has another home is read from that variable (:func:`variable_of`).

    The value itself is read when a run starts (``EnvVar``), so that the UI shows
    the variable's name and never what it holds. Required fields are always read
    from the environment, and Dagster names the one that is missing.
    """
    given = {}
    for name, field in resource.model_fields.items():
        variable = variable_of(resource, name, prefix)
        if field.is_required() or os.environ.get(variable):
            number = field.annotation is int
            given[name] = dg.EnvVar.int(variable) if number else dg.EnvVar(variable)
    return resource(**given)
