"""``tbg down``: stops a stack from another terminal, or what a killed one left."""

import os
import signal
import time
from pathlib import Path
from typing import Final

import click

from tbg.stack.state import State, state_option
from tbg.stack.supervisor import stop_leftovers

STOP_SECONDS: Final = 660.0  # a database on a slow disk may take minutes to write it all down


@click.command("down")
@state_option
def command(state_path: Path) -> None:
    """Stop the stack of a state folder; its data stays.

    Stops a running tbg up as Ctrl-C would, and what a killed one left behind. If
    nothing runs, it says so.

    \b
    Examples:
      tbg down
      tbg down --state /tmp/second
    """
    state = State(state_path)
    pid = state.holder()
    if pid:
        click.echo(f"stopping tbg up ({pid})")
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while state.holder() is not None:
        if time.monotonic() > deadline:
            raise click.ClickException(f"tbg up ({pid}) did not end in {STOP_SECONDS:.0f} s")
        time.sleep(0.1)
    left = stop_leftovers(state)
    if left:
        click.echo(f"stopped what an earlier stack left running: {', '.join(left)}")
    if pid or left:
        click.echo(f"stopped; the data stays in {state.path}")
    else:
        click.echo(f"nothing was running in {state.path}")
