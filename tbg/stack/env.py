"""``tbg env``: the settings of a stack, for a shell."""

import shlex
from pathlib import Path

import click

from tbg import outputs
from tbg.options import json_option
from tbg.stack.state import State, state_option


@click.command("env")
@state_option
@json_option
def command(state_path: Path, as_json: bool) -> None:
    """Print how to reach the stack, passwords included, for a shell.

    \b
    Examples:
      eval "$(tbg env)" && tbg migrate
      tbg env --json
    """
    state = State(state_path)
    stack = state.read_stack()
    if stack is None:
        raise click.ClickException(f"{state.never_started}, or name its folder with --state")
    if state.holder() is None:
        click.echo("the stack is not running now", err=True)
    environment = stack.environment()
    if as_json:
        outputs.show(outputs.Environment, environment)
        return
    for name, value in environment.items():
        click.echo(f"export {name}={shlex.quote(value)}")
