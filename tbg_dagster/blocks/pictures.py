"""The states of blocks, and the difficulty of the network."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import dagster as dg

from tbg_dagster.picture import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    as_metadata,
    canvas,
    nothing,
    si,
    time_axis,
)
from tbg_dagster.weekly.pictures import short

COLOURS: Final[Mapping[str, str]] = {
    "found": GREY,
    "accepted": ORANGE,
    "confirmed": GREEN,
    "orphaned": RED,
    "rejected": INK,
}


def states(counts: Mapping[str, int]) -> dg.MarkdownMetadataValue:
    """One bar per state, found to final."""
    title = "Blocks by state"
    figure, axes = canvas(title)
    if not counts:
        nothing(axes, "no block was found yet")
        return as_metadata(figure, title)
    places = range(len(COLOURS))
    values = [counts.get(state, 0) for state in COLOURS]
    axes.barh(places, values, color=list(COLOURS.values()), height=0.6)
    axes.set_yticks(places, list(COLOURS))
    axes.invert_yaxis()
    axes.set_xlim(0, max(values) * 1.12)
    axes.grid(visible=False)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    for place, value in zip(places, values, strict=True):
        axes.text(value + max(values) * 0.012, place, f"{value:,}", va="center", color=INK)
    return as_metadata(figure, title)


def latest(rows: Sequence[dict[str, Any]]) -> dg.TableMetadataValue:
    """The newest blocks as a table."""
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord(
                {
                    "height": row["block_height"],
                    "hash": f"…{row['block_hash'][-16:]}",
                    "status": row["status"],
                    "confirmations": row["confirmations"],
                    "user": short(row["btc_address"]),
                    "reward (BTC)": f"{row['reward_btc']}",
                    "found at (UTC)": f"{row['found_at']:%F %T}",
                }
            )
            for row in rows
        ],
        schema=dg.TableSchema(
            [
                dg.TableColumn("height", "int"),
                dg.TableColumn("hash", "string"),
                dg.TableColumn("status", "string"),
                dg.TableColumn("confirmations", "int"),
                dg.TableColumn("user", "string"),
                dg.TableColumn("reward (BTC)", "string"),
                dg.TableColumn("found at (UTC)", "string"),
            ]
        ),
    )


def difficulty(rows: Sequence[dict[str, Any]]) -> dg.MarkdownMetadataValue:
    """The network difficulty as steps over time."""
    title = "Network difficulty"
    figure, axes = canvas(title)
    if not rows:
        nothing(axes, "no network block was seen yet")
        return as_metadata(figure, title)
    times = [row["first_seen"] for row in rows]
    values = [row["network_difficulty"] for row in rows]
    last = max(rows[-1]["last_seen"], times[0] + timedelta(minutes=1))
    axes.step([*times, last], [*values, values[-1]], where="post", color=BLUE, linewidth=2)
    axes.set_ylim(0, max(values) * 1.25)
    axes.yaxis.set_major_formatter(lambda value, _: si(value))
    time_axis(axes)
    return as_metadata(figure, title)


def odds(rows: Sequence[dict[str, Any]]) -> dg.TableMetadataValue:
    """Expected times to a block, the pool first."""
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord(
                {
                    "who": row["who"],
                    "hashrate": si(row["hashrate"], "H/s"),
                    "expected time to block": duration(row["expected_seconds"]),
                    "chance in a day": f"{row['chance_day']:.3g}",
                    "chance in a year": f"{row['chance_year']:.3g}",
                }
            )
            for row in rows
        ],
        schema=dg.TableSchema(
            [
                dg.TableColumn("who", "string"),
                dg.TableColumn("hashrate", "string"),
                dg.TableColumn("expected time to block", "string"),
                dg.TableColumn("chance in a day", "string"),
                dg.TableColumn("chance in a year", "string"),
            ]
        ),
    )


def duration(seconds: float) -> str:
    """A time as a person says it: ``3.2 days``."""
    for size, unit in ((31_557_600, "years"), (86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= size:
            value = seconds / size
            return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    return f"{seconds:.3g} seconds"
