"""Pictures in the metadata of an asset: drawn in memory, no file left behind."""

import base64
import io
from datetime import UTC
from typing import Final

import dagster as dg
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from PIL import Image

ORANGE: Final = "#f7931a"
BLUE: Final = "#1f5fbf"
GREY: Final = "#8a8f98"
RED: Final = "#d64545"
GREEN: Final = "#2f9e5b"
INK: Final = "#1f2430"

# Inches and dots per inch: sharp in the UI's metadata dialog, and about 10 kB,
# because every picture is kept in the event log.
SIZE: Final = (9.0, 3.4)
DPI: Final = 100
COLOURS: Final = 48

_PREFIXES: Final = ("", "k", "M", "G", "T", "P", "E", "Z")


def canvas(title: str) -> tuple[Figure, Axes]:
    """An empty picture in the house's style. No pyplot: nothing global, safe in threads."""
    figure = Figure(figsize=SIZE, layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(axis="y", color="#e6e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def time_axis(axes: Axes) -> None:
    """Labels the x axis with times, UTC."""
    locator = AutoDateLocator(tz=UTC, minticks=4, maxticks=10)  # type: ignore[no-untyped-call]  # matplotlib's stubs lack it
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]  # as above


def nothing(axes: Axes, text: str) -> None:
    """Says that there is nothing to draw."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", color=GREY, fontsize=12)


def si(value: float, unit: str = "", digits: int = 3) -> str:
    """A number with an SI prefix: ``si(1.2e12, "H/s")`` is ``1.2 TH/s``."""
    power = 0
    while abs(value) >= 999.5 and power < len(_PREFIXES) - 1:
        value /= 1000
        power += 1
    return f"{value:.{digits}g} {_PREFIXES[power]}{unit}".rstrip()


def as_metadata(figure: Figure, alt: str) -> dg.MarkdownMetadataValue:
    """The picture as Markdown with the PNG inside."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    small = io.BytesIO()
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(
            small, format="png", optimize=True
        )
    encoded = base64.b64encode(small.getvalue()).decode()
    return dg.MetadataValue.md(f"![{alt}](data:image/png;base64,{encoded})")
