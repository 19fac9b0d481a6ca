"""``tbg devnet simulate`` with ``--state``: the simulator finds the stack that runs."""

from pathlib import Path
from typing import Any, Final

import click

from devnet.simulator.cli import simulate_command
from tbg.stack.state import Stack, State, state_option


def running(state: State) -> Stack:
    """The stack that runs in a state folder.

    Raises:
        click.ClickException: there is none.
    """
    stack = state.read_stack()
    if stack is None:
        raise click.ClickException(f"{state.never_started}, or name its folder with --state")
    if state.holder() is None:
        raise click.ClickException(f"the stack of {state.path} is stopped: run tbg up")
    return stack


@state_option
def _simulate(
    state_path: Path, socket_path: Path | None, output: Path | None, **options: Any
) -> None:
    if socket_path is None and output is None:
        socket_path = Path(running(State(state_path)).socket_path)
    assert simulate_command.callback is not None
    simulate_command.callback(socket_path=socket_path, output=output, **options)


command: Final = click.Command(
    "simulate",
    params=[*simulate_command.params, *_simulate.__click_params__],
    callback=_simulate,
    help=simulate_command.help,
    epilog=simulate_command.epilog,
    context_settings=simulate_command.context_settings,
)
