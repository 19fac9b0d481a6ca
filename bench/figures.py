"""Figures, each beside its limit: a table for people, JSON for machines."""

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from rich.console import Console
from rich.table import Table

_DIGITS: Final = 100.0


@dataclass
class Figure:
    """One measured value.

    Attributes:
        limit: what the machine does at best of the same work, in the same unit.
        limit_is: what was measured for it.
        goal: what issue or design ask for, in words.
    """

    part: str
    what: str
    value: float
    unit: str
    limit: float | None = None
    limit_is: str = ""
    goal: str = ""
    note: str = ""


@dataclass
class Report:
    """Every figure of one run."""

    quick: bool
    database: str = ""
    figures: list[Figure] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    load_before: tuple[float, float, float] = field(default_factory=os.getloadavg)

    def add(self, part: str, what: str, value: float, unit: str, **more: Any) -> Figure:
        """Adds a figure and returns it."""
        figure = Figure(part, what, value, unit, **more)
        self.figures.append(figure)
        return figure

    def value(self, what: str) -> float | None:
        """The value of a figure that was measured before, None where it was not."""
        return next((figure.value for figure in self.figures if figure.what == what), None)

    def show(self, console: Console) -> None:
        """Prints the table."""
        table = Table(title=f"{self.machine()}", title_justify="left", expand=False)
        for name in ("part", "what"):
            table.add_column(name)
        table.add_column("measured", justify="right")
        table.add_column("unit")
        table.add_column("limit", justify="right")
        table.add_column("of it", justify="right")
        table.add_column("the limit is; note")
        table.add_column("goal")
        part = ""
        for figure in self.figures:
            if part and figure.part != part:
                table.add_section()
            share = (
                ""
                if figure.limit is None or not figure.limit
                else f"{figure.value / figure.limit:.0%}"
            )
            table.add_row(
                figure.part if figure.part != part else "",
                figure.what,
                number(figure.value),
                figure.unit,
                "" if figure.limit is None else number(figure.limit),
                share,
                "; ".join(text for text in (figure.limit_is, figure.note) if text),
                figure.goal,
            )
            part = figure.part
        console.print(table)
        for line in self.left_out:
            console.print(f"left out: {line}")

    def machine(self) -> str:
        """Where it ran, with which database, and how busy that was."""
        return (
            f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()} "
            f"{platform.release().split('-')[0]}, Python {platform.python_version()}, "
            f"{self.database}; "
            f"load before {self.load_before[0]:.1f}, after {os.getloadavg()[0]:.1f}"
        )

    def as_json(self) -> str:
        """Everything."""
        return json.dumps(
            {
                "machine": self.machine(),
                "quick": self.quick,
                "load_before": self.load_before,
                "load_after": os.getloadavg(),
                "figures": [asdict(figure) for figure in self.figures],
                "left_out": self.left_out,
            },
            indent=2,
        )


def number(value: float) -> str:
    """A number as a person reads it."""
    return f"{value:,.0f}" if abs(value) >= _DIGITS or value == int(value) else f"{value:.3g}"
