"""The difficulties of shares against their law."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
import numpy as np

from tbg_dagster.picture import BLUE, INK, ORANGE, as_metadata, canvas, log_axis, picture

Rows = Sequence[dict[str, Any]]


@picture
def against_law(rows: Rows, title: str) -> dg.MarkdownMetadataValue:
    """How many shares reached a difficulty, on logarithmic axes, and the 1/x law."""
    if not rows:
        return dg.MetadataValue.md("No share was accepted in this time.")
    figure, axes = canvas(title)
    reached = np.exp2([float(row["exponent"]) for row in rows])
    counts = np.array([row["shares"] for row in rows], dtype=float)
    at_least = counts[::-1].cumsum()[::-1]
    work = sum(float(row["work"]) for row in rows)
    highest = max(float(row["highest_difficulty"]) for row in rows)
    axes.scatter(reached, at_least, s=22, color=ORANGE, label="shares that reached x", zorder=3)
    # Below the highest assigned difficulty the law does not hold for all.
    line = np.geomspace(highest, max(work, reached[-1] * 1.5, highest * 2), 50)
    axes.plot(line, work / line, color=BLUE, linewidth=1.6, label="work / x")
    spread = 1.96 * np.sqrt(work / line)
    axes.fill_between(
        line,
        np.maximum(work / line - spread, 0.2),
        work / line + spread,
        color=BLUE,
        alpha=0.12,
        linewidth=0,
        label="95 % of cases",
    )
    log_axis(axes, "x", "y")
    axes.set_ylim(0.5, at_least[0] * 3)
    axes.set_xlabel("share difficulty x", color=INK)
    axes.set_ylabel("shares ≥ x", color=INK)
    axes.legend(loc="upper right", frameon=False, fontsize=9)
    return as_metadata(figure, title)
