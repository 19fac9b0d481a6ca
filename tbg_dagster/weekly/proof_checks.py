"""The proofs of work of a week's best shares."""

from datetime import date, timedelta
from typing import Any

import dagster as dg

from tbg_core.evidence import Ask, Case, Unanswered, cases_of_week
from tbg_core.names import week_start
from tbg_core.proof import Tip
from tbg_core.releases import Release, failure, held_back, released
from tbg_core.wording import counted, printable
from tbg_dagster import clock
from tbg_dagster.resources import BitcoinNode, Database, Thresholds
from tbg_dagster.resources.bitcoin import NodeError
from tbg_dagster.resources.database import Connection
from tbg_dagster.standing import found_before, keep
from tbg_dagster.verdict import ERROR, WARN, verdict


def asking(node: BitcoinNode) -> Ask:
    """Asks the node for blocks that the pool did not see, until it gives no answer."""
    silent: list[NodeError] = []

    def ask(block_hash: str) -> Tip | None:
        if silent:
            raise Unanswered
        try:
            return node.tip(block_hash)
        except NodeError as error:
            silent.append(error)
            raise Unanswered from error

    return ask


def judged(
    connection: Connection, week: date, thresholds: Thresholds, node: BitcoinNode | None = None
) -> list[Case]:
    """The top ten of a finalised week, best first; none while it is provisional."""
    ask = asking(node) if node else None
    cases = cases_of_week(connection, week, thresholds.coinbase_signature, ask)
    return [case for case in cases if case.rank is not None]


def publishable(
    connection: Connection, week: date, thresholds: Thresholds, node: BitcoinNode | None = None
) -> list[Case]:
    """The top ten of a finalised week, none of whose proofs fails, but those released.

    Raises:
        dagster.Failure: when one does, so that the result must not be published.
    """
    cases = judged(connection, week, thresholds, node)
    failed = [failure(case) for case in held_back(cases, released(connection, week))]
    if failed:
        raise dg.Failure(
            f"week {week} is not published: {printable('; '.join(failed))}. When a person has looked at "
            f"it: tbg release {week:%G-W%V} --help",
            allow_retries=False,
        )
    return cases


def marked(
    result: dict[str, Any], cases: list[Case], releases: list[Release] | None = None
) -> dict[str, Any]:
    """A week's result with ``proven``, of each of the top ten and of the winner.

    And with ``released``: what a person let pass although its proof fails, if anything.
    """
    proven = {case.rank: case.proven for case in cases}
    top = [{**row, "proven": proven.get(row["rank"], False)} for row in result["top"]]
    passed = [
        release.told(case.rank)
        for case in cases
        for release in releases or ()
        if case.fails and release.covers(case)
    ]
    return {
        **result,
        "winner": top[0] if top else None,
        "top": top,
        "proven": bool(top) and top[0]["proven"],
        **({"released": passed} if passed else {}),
    }


@dg.asset_check(asset="weekly_best_diff", blocking=True)
def winners_are_proven(
    context: dg.AssetCheckExecutionContext,
    database: Database,
    thresholds: Thresholds,
    bitcoin_node: BitcoinNode,
) -> dg.AssetCheckResult:
    """The proofs of work of each closed week's top ten hold, or a person let them pass.

    Looks at the weeks of its run, or at the last month; and at those whose proofs failed
    before, until they hold. ERROR, and blocking: a result whose proof fails must not be
    published (`tbg release` lets it pass, on record). WARN if those of its own run hold. A best
    without a proof passes, and is named. A block before the share that the pool did not see is
    asked of the node; where it gives no answer, that is not checked, which does not fail.
    """
    mine = _weeks(context)
    with database.connect() as connection:
        before = found_before(connection, "winners_are_proven")
        looked_at = sorted({*mine, *map(date.fromisoformat, before)})
        weeks = {week: judged(connection, week, thresholds, bitcoin_node) for week in looked_at}
        back = {week: held_back(found, released(connection, week)) for week, found in weeks.items()}
        wrong = [week for week in weeks if back[week]]
        keep(connection, "winners_are_proven", before, [week.isoformat() for week in wrong])
    cases = [case for found in weeks.values() for case in found]
    failed = [f"{week} {failure(case)}" for week in weeks for case in back[week]]
    let_pass = sum(case.fails for case in cases) - len(failed)
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
    if let_pass:
        text += f"; {let_pass} with a proof that fails, released"
    if missing:
        text += f"; {len(missing)} without a proof: " + ", ".join(missing[:5])
    return verdict(
        not failed,
        text,
        ERROR if set(wrong) & set(mine) else WARN,
        do="Look at the proof: tbg verify; if it may pass: tbg release WEEK --help",
        proven=proven,
        failed=len(failed),
        released=let_pass,
        without_proof=len(missing),
    )


def _weeks(context: dg.AssetCheckExecutionContext) -> list[date]:
    if context.has_partition_key or context.has_partition_key_range:
        return [date.fromisoformat(key) for key in context.partition_keys]
    this_week = week_start(clock.now())
    return [this_week - timedelta(weeks=back) for back in range(4, 0, -1)]
