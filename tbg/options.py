"""Options and arguments that several commands take."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import click

from tbg.stack.state import DEFAULT_STATE, State


class Parsed(click.ParamType[Any]):
    """A text that a function reads.

    Args:
        parse: raises ValueError for what it cannot read.
        wanted: completes "must ..." in the message about that.
    """

    name = "text"

    def __init__(self, parse: Callable[[str], Any], wanted: str) -> None:
        self._parse = parse
        self._wanted = wanted

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._parse(value) if isinstance(value, str) else value
        except ValueError:
            self.fail(f"must {self._wanted}", param, ctx)


class OfStack(click.Option):
    """An option that the environment answers, or else the stack of the state folder."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """What its environment variable says here, or said where the stack was started."""
        if found := super().resolve_envvar_value(ctx):
            return found
        stack = State(ctx.params.get("state_path", DEFAULT_STATE)).read_stack()
        return stack.environment().get(str(self.envvar)) if stack else None


def utc(text: str) -> datetime:
    """A moment in ISO 8601, in UTC unless it says otherwise."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


json_option: Final = click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
json_list_option: Final = click.option("--json", "as_json", is_flag=True, help="As a JSON list.")
