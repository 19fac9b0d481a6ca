"""Since when a check fails."""

from typing import Any, Final

import dagster as dg

from tbg_dagster.standing import LOOKED

# Results of a check in one page, and the most pages that are read.
PAGE: Final = 100
PAGES: Final = 100


def result_of(record: Any) -> dg.AssetCheckEvaluation | None:
    """The outcome of an execution of a check; None while it is planned, and if it crashed."""
    evaluation = record.evaluation
    return evaluation if isinstance(evaluation, dg.AssetCheckEvaluation) else None


def value_of(metadata: Any, name: str, default: Any) -> Any:
    """A value of a result's metadata."""
    return getattr(metadata.get(name), "value", default)


def first_failure(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> Any:
    """The record of the first of the failures in a row that the newest result ends; or None."""
    first, cursor = None, None
    for _ in range(PAGES):
        page = instance.event_log_storage.get_asset_check_execution_history(
            key, limit=PAGE, cursor=cursor
        )
        for record in page:
            evaluation = result_of(record)
            if evaluation is None:
                continue
            if evaluation.passed and value_of(evaluation.metadata, LOOKED, True):
                return first
            if not evaluation.passed:
                first = record
        if len(page) < PAGE:
            break
        cursor = page[-1].id
    return first
