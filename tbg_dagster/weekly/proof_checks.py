"""The proofs of work of a week's best shares."""

from datetime import date, timedelta
from typing import Any

import dagster as dg

from ingest.evidence import Case, cases_of_week
from ingest.names import week_start
from tbg_dagster import clock
from tbg_dagster.counting import counted
from tbg_dagster.resources import Database, Thresholds
from tbg_dagster.resources.database import Connection
from tbg_dagster.standing import found_before, keep
from tbg_dagster.verdict import ERROR, WARN, verdict


def judged(connection: Connection, week: date, thresholds: Thresholds) -> list[Case]:
    """The top ten of a finalised week, best first; none while it is provisional."""
    cases = cases_of_week(connection, week, thresholds.coinbase_signature)
    return [case for case in cases if case.rank is not None]


def publishable(connection: Connection, week: date, thresholds: Thresholds) -> list[Case]:
    """The top ten of a finalised week, none of whose proofs fails.

    Raises:
        dagster.Failure: when one does, so that the result must not be published.
    """
    cases = judged(connection, week, thresholds)
    failed = [_failure(case) for case in cases if case.fails]
    if failed:
        raise dg.Failure(f"week {week} is not published: {'; '.join(failed)}")
    return cases


def marked(result: dict[str, Any], cases: list[Case]) -> dict[str, Any]:
    """A week's result with ``proven``: of each of the top ten, and of the winner."""
    proven = {case.rank: case.proven for case in cases}
    top = [{**row, "proven": proven.get(row["rank"], False)} for row in result["top"]]
    return {
        **result,
        "winner": top[0] if top else None,
        "top": top,
        "proven": bool(top) and top[0]["proven"],
    }


@dg.asset_check(asset="weekly_best_diff", blocking=True)
def winners_are_proven(
    context: dg.AssetCheckExecutionContext, database: Database, thresholds: Thresholds
) -> dg.AssetCheckResult:
    """The proofs of work of each closed week's top ten hold.

    Looks at the weeks of its run, or at the last month; and at those whose proofs failed
    before, until they hold. ERROR, and blocking: a result whose proof fails must not be
    published. WARN if those of its own run hold. A best without a proof passes, and is named.
    """
    mine = _weeks(context)
    with database.connect() as connection:
        before = found_before(connection, "winners_are_proven")
        weeks = {
            week: judged(connection, week, thresholds)
            for week in sorted({*mine, *map(date.fromisoformat, before)})
        }
        wrong = [week for week in weeks if any(case.fails for case in weeks[week])]
        keep(connection, "winners_are_proven", before, [week.isoformat() for week in wrong])
    cases = [case for found in weeks.values() for case in found]
    failed = [f"{week} {_failure(case)}" for week in weeks for case in weeks[week] if case.fails]
    missing = [
        f"{week} rank {case.rank} ({case.claim.user})"
        for week in weeks
        for case in weeks[week]
        if case.proof is None
    ]
    proven = sum(case.proven for case in cases)
    text = f"{proven} of {counted(len(cases), 'best')} proven"
    if failed:
        text += f"; {len(failed)} with a proof that fails: " + "; ".join(failed[:5])
    if missing:
        text += f"; {len(missing)} without a proof: " + ", ".join(missing[:5])
    return verdict(
        not failed,
        text,
        ERROR if set(wrong) & set(mine) else WARN,
        proven=proven,
        failed=len(failed),
        without_proof=len(missing),
    )


def _weeks(context: dg.AssetCheckExecutionContext) -> list[date]:
    if context.has_partition_key or context.has_partition_key_range:
        return [date.fromisoformat(key) for key in context.partition_keys]
    this_week = week_start(clock.now())
    return [this_week - timedelta(weeks=back) for back in range(4, 0, -1)]


def _failure(case: Case) -> str:
    wrong = ", ".join(f"{fact.name}: {fact.text}" for fact in case.facts if fact.holds is False)
    return f"rank {case.rank} ({case.claim.user}): {wrong}"
