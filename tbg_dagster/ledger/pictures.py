"""The ledger over time: what became of the events, and every loss where it lies."""

from collections.abc import Sequence
from datetime import datetime
from math import log10
from typing import Any, Final

import dagster as dg
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tbg_core.wording import counted
from tbg_dagster.partitions import HOUR
from tbg_dagster.picture import (
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    RED,
    as_metadata,
    picture,
    si,
    time_axis,
)

Rows = Sequence[dict[str, Any]]

# Columns of the ledger under the names of `tbg ledger`, and their colours.
STORED: Final = ("committed", "stored", GREEN)
LANES: Final = (
    ("dead_lettered", "refused", GREY),
    ("dropped", "dropped", ORANGE),
    ("unexplained", "lost", RED),
)
# Engine boots, and not events: nobody vouches for what they emitted last.
ENDS: Final = ("ends_unknown", "end unknown", INK)
# Inches: as wide as the UI's dialog, with four lanes below the volume.
SIZE: Final = (9.0, 4.4)
BAND: Final = "#f9dede"
WIDTH: Final = HOUR.total_seconds() / 86_400 * 0.85  # days, of a bar
# So that a single hour is a bar and no wall.
FEWEST_HOURS: Final = 12
# Height of a single event in its lane; the largest count has height 1.
LOWEST: Final = 0.5


@picture
def over_time(rows: Rows, start: datetime, end: datetime) -> dg.MarkdownMetadataValue:
    """What became of the events of each hour, and below it what was not stored.

    The volume is to scale. The lanes below are not, so that one lost event among
    millions is as plain to see as a million: every hour with events is a pale cell,
    and a mark in it grows with the logarithm of the count.

    Args:
        rows: the closed hours in [``start``, ``end``), oldest first.
    """
    span = f"from {start:%d %b %H:%M} to {end:%d %b %H:%M} UTC"
    if not rows:
        return dg.MetadataValue.md(f"No engine sent a numbered event {span}.")
    figure = Figure(figsize=SIZE, layout="constrained", facecolor="white")
    volume, *lanes = figure.subplots(2 + len(LANES), sharex=True, height_ratios=[6, 1, 1, 1, 1])
    begin = max(start, min(rows[0]["hour"], end - FEWEST_HOURS * HOUR))
    volume.set_xlim(begin, end)
    middles = [row["hour"] + HOUR / 2 for row in rows]
    _volume(volume, middles, rows)
    _beside(volume, 0.1, f"{begin:%d %b %H:%M}\nto {end:%d %b %H:%M}\nUTC", GREY)
    most = max(row[name] for row in rows for name, _, _ in LANES)
    for axes, (name, label, colour) in zip(lanes, (*LANES, ENDS), strict=True):
        counts = [row.get(name, 0) for row in rows]
        axes.bar(middles, [1] * len(rows), WIDTH, color=PALE)
        axes.bar(middles, [_height(count, most) for count in counts], WIDTH, color=colour)
        _label_lane(axes, label, counts, colour)
    time_axis(lanes[-1])
    lanes[-1].xaxis.get_offset_text().set_visible(False)  # the date is beside the volume
    return as_metadata(figure, f"The share ledger {span}")


def headline(rows: Rows) -> str:
    """What the hours come to, in a line."""
    lost = [row["unexplained"] for row in rows if row["unexplained"]]
    ends = sum(row.get("ends_unknown", 0) for row in rows)
    said = [
        f"{counted(sum(lost), 'event')} lost without explanation, in {counted(len(lost), 'hour')}"
    ] * bool(lost)
    if ends:
        said.append(f"the end of {counted(ends, 'engine boot')} is unknown")
    return "; ".join(said) or "no unexplained loss"


def _volume(axes: Axes, middles: Sequence[Any], rows: Rows) -> None:
    """Bars to scale, the verdict above them, and a band behind every hour with a loss."""
    lost = [row["hour"] for row in rows if row["unexplained"]]
    axes.set_title(
        headline(rows).capitalize(),
        loc="left",
        fontsize=12,
        fontweight="bold",
        color=RED if lost else INK if any(row.get("ends_unknown") for row in rows) else GREEN,
    )
    for hour in lost:
        axes.axvspan(hour, hour + HOUR, color=BAND, linewidth=0, zorder=0)
    bottom = [0] * len(rows)
    for name, _, colour in (STORED, *LANES):
        values = [row[name] for row in rows]
        axes.bar(middles, values, WIDTH, bottom=bottom, color=colour)
        bottom = [low + value for low, value in zip(bottom, values, strict=True)]
    axes.set_ylim(0, max(bottom) * 1.06 or 1)
    axes.yaxis.set_major_formatter(lambda value, _: si(value))
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_ylabel("events an hour", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=9)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y", color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    _beside(axes, 0.95, f"{sum(row['emitted'] for row in rows):,} emitted", INK)
    name, label, colour = STORED
    _beside(axes, 0.84, f"{sum(row[name] for row in rows):,} {label}", colour)


def _label_lane(axes: Axes, label: str, counts: Sequence[int], colour: str) -> None:
    """What a lane shows to its left, and what it comes to on its right."""
    hours = sum(count > 0 for count in counts)
    axes.set_ylim(0, 1)
    axes.set_yticks([0.5], [label])
    axes.tick_params(axis="both", colors=INK, labelsize=9, length=0)
    axes.spines[:].set_visible(False)
    ink = colour if hours else GREY
    axes.get_yticklabels()[0].set(color=ink, fontweight="bold" if hours else "normal")
    _beside(axes, 0.5, f"{sum(counts):,} in {counted(hours, 'hour')}" if hours else "none", ink)


def _height(count: int, most: int) -> float:
    if count <= 0:
        return 0
    return LOWEST + (1 - LOWEST) * (min(1, log10(count) / log10(most)) if most > 1 else 0)


def _beside(axes: Axes, height: float, text: str, colour: str) -> None:
    """Writes to the right of the axes."""
    axes.text(1.01, height, text, transform=axes.transAxes, va="center", fontsize=9, color=colour)
