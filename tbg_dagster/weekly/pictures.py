"""The leaderboard of a week."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import dagster as dg

from tbg_core.events import MAX_DIFFICULTY, MIN_DIFFICULTY
from tbg_core.wording import printable
from tbg_dagster.picture import INK, ORANGE, PALE, as_metadata, canvas, log_axis, picture, short, si


@picture
def leaderboard(rows: Sequence[dict[str, Any]], week: date) -> dg.MarkdownMetadataValue:
    """The ten best shares of a week as bars on a logarithmic axis."""
    title = f"Best shares of the week of {week.day} {week:%B %Y}"
    best = rows[:10]
    if not best:
        return dg.MetadataValue.md("Nobody found a share in this week.")
    figure, axes = canvas(title)
    places = range(len(best))
    # A logarithmic axis has no zero, and a float's end is no place for a bar.
    values = [min(max(row["best_difficulty"], MIN_DIFFICULTY), MAX_DIFFICULTY) for row in best]
    axes.barh(places, values, color=[ORANGE] + ["#f9c784"] * (len(best) - 1))
    axes.set_yticks(places, [f"{row['rank']}.  {short(row['user'])}" for row in best])
    axes.invert_yaxis()
    log_axis(axes, "x")
    axes.set_xlim(min(values) / 3, max(values) * 3)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=PALE, linewidth=0.8)
    for place, value in zip(places, values, strict=True):
        axes.text(value * 1.05, place, si(value), va="center", fontsize=9, color=INK)
    axes.set_xlabel("share difficulty", color=INK)
    return as_metadata(figure, title)


def table(rows: Sequence[dict[str, Any]]) -> dg.TableMetadataValue:
    """The first ten of a week as a table that fits beside the UI's menus."""
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "rank": row["rank"],
                    "best difficulty": si(row["best_difficulty"], digits=4),
                    "user": short(row["user"]),
                    "worker": printable(row["worker"]),
                    "found at (UTC)": f"{row['best_share_time']:%F %T}",
                    "shares": row["total_shares"],
                    "work": si(row["total_work"], digits=4),
                }
            )
            for row in rows[:10]
        ],
        None if rows else dg.TableSchema([]),
    )


def winners(rows: Sequence[dict[str, Any]]) -> dg.TableMetadataValue:
    """Who won each of the last weeks, newest first.

    Args:
        rows: week_start, user, worker, best_difficulty and entrants of each.
    """
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "week": f"{row['week_start']:%G-W%V}",
                    "best difficulty": si(row["best_difficulty"], digits=4),
                    "winner": short(row["user"]),
                    "worker": printable(row["worker"]),
                    "entrants": row["entrants"],
                }
            )
            for row in rows
        ],
        None if rows else dg.TableSchema([]),
    )
