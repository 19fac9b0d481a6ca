"""The ledger over time, and as a table."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from tbg_dagster.partitions import HOUR
from tbg_dagster.picture import (
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

Rows = Sequence[dict[str, Any]]
SHOWN = (
    "instance",
    "emitted",
    "received",
    "committed",
    "dead_lettered",
    "duplicates",
    "dropped",
    "missing",
    "unexplained",
)


def over_time(rows: Rows, title: str) -> dg.MarkdownMetadataValue:
    """What became of the events of each hour; a loss stands out as a red mark."""
    figure, axes = canvas(title)
    if not rows:
        nothing(axes, "no engine sent numbered events in this time")
        return as_metadata(figure, title)
    times = [row["hour"] + HOUR / 2 for row in rows]
    width = HOUR.total_seconds() / 86_400 * 0.85
    bottom = [0] * len(rows)
    for name, colour in (
        ("committed", GREEN),
        ("dead_lettered", GREY),
        ("dropped", ORANGE),
        ("unexplained", RED),
    ):
        values = [row[name] for row in rows]
        axes.bar(times, values, width, bottom=bottom, color=colour, label=name.replace("_", " "))
        bottom = [low + value for low, value in zip(bottom, values, strict=True)]
    lost = [(time, row) for time, row in zip(times, rows, strict=True) if row["unexplained"]]
    for time, row in lost:
        # A few events among millions would be too thin to see.
        axes.annotate(
            f"{row['unexplained']:,} lost",
            (time, row["emitted"]),
            ha="center",
            va="bottom",
            fontsize=8,
            color=RED,
        )
    axes.set_ylabel("events", color=INK)
    axes.yaxis.set_major_formatter(lambda value, _: si(value))
    axes.margins(y=0.25)
    axes.legend(loc="upper left", ncols=4, frameon=False, fontsize=9)
    time_axis(axes)
    return as_metadata(figure, title)


def as_table(rows: Rows) -> dg.MarkdownMetadataValue:
    """One line per engine boot."""
    lines = ["| " + " | ".join(name.replace("_", " ") for name in SHOWN) + " |"]
    lines.append("| --- |" + " ---: |" * (len(SHOWN) - 1))
    for row in rows:
        name = str(row["instance"]).replace("|", "\\|").replace("`", "'")
        cells = [f"`{name}`", *(f"{row[column]:,}" for column in SHOWN[1:])]
        lines.append("| " + " | ".join(cells) + " |")
    return dg.MetadataValue.md("\n".join(lines))
