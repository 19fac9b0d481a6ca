"""Pictures in the metadata of an asset: drawn in memory, no file left behind.

They decorate: one that cannot be drawn says so in its place, and fails no run.
"""

import base64
import functools
import io
from collections.abc import Callable
from datetime import UTC
from typing import Final, Literal, ParamSpec

import dagster as dg
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import FuncFormatter, NullFormatter

from tbg_core.wording import shortened

ORANGE: Final = "#f7931a"
BLUE: Final = "#1f5fbf"
GREY: Final = "#8a8f98"
RED: Final = "#d64545"
GREEN: Final = "#2f9e5b"
INK: Final = "#1f2430"
PALE: Final = "#e6e8ec"

# Inches, at matplotlib's 100 dots: sharp in the UI's metadata dialog, and about 20 kB,
# because every picture is kept in the event log.
SIZE: Final = (9.0, 3.4)
SHADE: Final = 32  # of 256, in each colour

_PREFIXES: Final = ("", "k", "M", "G", "T", "P", "E", "Z")

# Names are of strangers: a dollar sign in one is no formula, in any text of any picture.
mpl.rcParams["text.parse_math"] = False

Given = ParamSpec("Given")
Drawn = dg.MarkdownMetadataValue


def picture(draw: Callable[Given, Drawn]) -> Callable[Given, Drawn]:
    """Lets ``draw`` fail without failing its run: the text then says why."""

    @functools.wraps(draw)
    def drawn(*args: Given.args, **kwargs: Given.kwargs) -> Drawn:
        try:
            return draw(*args, **kwargs)
        except Exception as error:  # whatever it was, the numbers stand
            return dg.MetadataValue.md(f"No picture: {type(error).__name__}.")

    return drawn


def short(name: str) -> str:
    """A stranger's name or address, short enough to read and still distinct: its beginning and its end.

    The font has every printable ASCII character, and no drawing obeys one.
    """
    drawable = "".join(char if " " <= char <= "~" else "?" for char in name)
    return shortened(drawable)


def canvas(title: str) -> tuple[Figure, Axes]:
    """An empty picture in the house's style. No pyplot: nothing global, safe in threads."""
    figure = Figure(figsize=SIZE, layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(axis="y", color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def time_axis(axes: Axes) -> None:
    """Labels the x axis with times, UTC."""
    locator = AutoDateLocator(tz=UTC, minticks=4, maxticks=10)  # type: ignore[no-untyped-call]  # matplotlib's stubs lack it
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]  # as above


def log_axis(axes: Axes, *names: Literal["x", "y"]) -> None:
    """Makes these axes logarithmic, labelled with SI prefixes."""
    for name in names:
        axes.set(**{f"{name}scale": "log"})
        axis = axes.xaxis if name == "x" else axes.yaxis
        axis.set_major_formatter(FuncFormatter(lambda value, _: si(value)))
        axis.set_minor_formatter(NullFormatter())


def si(value: float, digits: int = 3) -> str:
    """A number with an SI prefix: ``si(1.2e12)`` is ``1.2 T``."""
    power = 0
    while abs(value) >= 999.5 and power < len(_PREFIXES) - 1:
        value /= 1000
        power += 1
    return f"{value:.{digits}g} {_PREFIXES[power]}".rstrip()


def hashrate(value: float) -> str:
    """H/s as miners write it: ``4.97 PH/s``."""
    number, _, prefix = si(value).partition(" ")
    return f"{number} {prefix}H/s"


def as_metadata(figure: Figure, alt: str) -> dg.MarkdownMetadataValue:
    """The picture as Markdown with the PNG inside."""
    drawing = FigureCanvasAgg(figure)
    drawing.draw()  # type: ignore[no-untyped-call]  # as below
    # Few shades: half the bytes, and no eye sees it.
    shown: np.ndarray = np.asarray(drawing.buffer_rgba())  # type: ignore[no-untyped-call]  # matplotlib's stubs lack it
    pixels = np.round(shown / SHADE) * SHADE
    drawn = io.BytesIO()
    imsave(drawn, pixels.clip(0, 255).astype(np.uint8), format="png", pil_kwargs={"optimize": True})
    encoded = base64.b64encode(drawn.getvalue()).decode()
    return dg.MetadataValue.md(f"![{alt}](data:image/png;base64,{encoded})")
