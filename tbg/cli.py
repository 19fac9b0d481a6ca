"""The ``tbg`` command.

A subcommand is imported when it runs: ``tbg --help`` is quick, and a command whose
extra is not installed names it while the others work.
"""

import importlib
from typing import Final, NamedTuple

import click
from click.shell_completion import CompletionItem


class Subcommand(NamedTuple):
    """Where a subcommand lives, and what it needs."""

    module: str
    attribute: str
    help: str
    extra: str | None = None


COMMANDS: Final[dict[str, Subcommand]] = {
    "up": Subcommand(
        "tbg.stack.up", "command", "Start everything, and show what flows until Ctrl-C."
    ),
    "down": Subcommand("tbg.stack.down", "command", "Stop the stack; its data stays."),
    "status": Subcommand("tbg.status", "command", "Show what runs, flows, waits and was lost."),
    "doctor": Subcommand(
        "tbg.doctor", "command", "Look at everything that must be right, and say what to do."
    ),
    "import": Subcommand(
        "tbg.sharelog.command", "command", "Import the share logs of a stock ckpool."
    ),
    "demo": Subcommand(
        "tbg.demo", "command", "Send two weeks of a simulated fleet to the stack.", "devnet"
    ),
    "ledger": Subcommand("tbg.ledger", "command", "Show what became of every event."),
    "forget": Subcommand("tbg.forget", "command", "Forget a writer's name that is not used."),
    "dead-letters": Subcommand(
        "tbg.letters", "command", "Show what was refused, and bring it back."
    ),
    "verify": Subcommand("tbg.verify", "command", "Check bests and blocks by their proof of work."),
    "receipt": Subcommand(
        "tbg.receipts.receipt",
        "command",
        "Write a user's receipt: his shares, and what proves them.",
        "batch",
    ),
    "receipts": Subcommand(
        "tbg.receipts.roots", "command", "Publish the roots of receipts, or amend an hour.", "batch"
    ),
    "release": Subcommand(
        "tbg.release", "command", "Let a week be published although a proof in it fails."
    ),
    "archive": Subcommand(
        "tbg.archive", "command", "Bring days back from the archive, or check it.", "batch"
    ),
    "notify": Subcommand("tbg.alerts", "notify", "Deliver alerts to people's channels.", "batch"),
    "alerts": Subcommand("tbg.alerts", "alerts", "Test, explain and mute alerts.", "batch"),
    "serve": Subcommand(
        "tbg_serve.command", "serve", "Answer miners' tools over HTTP, read-only.", "serve"
    ),
    "bests": Subcommand("tbg.bests", "command", "Show the best shares of users and workers."),
    "env": Subcommand("tbg.stack.env", "command", "Print how to reach the stack, for a shell."),
    "backup": Subcommand(
        "tbg.stack.backup", "command", "Write the data of a stack to one file.", "embedded"
    ),
    "restore": Subcommand(
        "tbg.stack.restore", "command", "Make a state folder from a backup.", "embedded"
    ),
    "smoke": Subcommand(
        "tbg.stack.smoke", "command", "Prove that every event reaches every store."
    ),
    "migrate": Subcommand("tbg.migrate", "command", "Bring the database's schema up to date."),
    "init": Subcommand("tbg.init", "command", "Write docker compose's .env, with random secrets."),
    "help": Subcommand("tbg.help", "command", "Show a page of the documentation."),
    "docs": Subcommand("tbg.docs", "command", "Write the pages that follow from the code."),
    "ingest": Subcommand("ingest.cli", "ingest", "Run the realtime daemon, or one of its stages."),
}

DEVNET_COMMANDS: Final[dict[str, Subcommand]] = {
    "node": Subcommand("devnet.node.cli", "node", "Run a regtest node.", "devnet"),
    "pool": Subcommand("devnet.pool.cli", "pool", "Run a Stratum V1 solo pool.", "devnet"),
    "miner": Subcommand("devnet.miner.cli", "miner", "Run a CPU miner.", "devnet"),
    "simulate": Subcommand("tbg.simulate", "command", "Run a fleet of virtual miners.", "devnet"),
}


class LazyGroup(click.Group):
    """A group whose subcommands are imported when they are run."""

    def __init__(self, subcommands: dict[str, Subcommand], **kwargs: object) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]  # click's own keywords, passed on
        self.subcommands = subcommands

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *self.subcommands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.subcommands.get(cmd_name)
        if entry is None:
            return super().get_command(ctx, cmd_name)
        try:
            module = importlib.import_module(entry.module)
        except ModuleNotFoundError as error:
            if entry.extra is None or (error.name or "").split(".")[0] in ("tbg", "devnet"):
                raise
            if ctx.resilient_parsing:
                return None  # a shell completes a line, and shows no error
            raise click.ClickException(
                f"{ctx.command_path} {cmd_name} needs {error.name}, which is not installed: "
                f"pip install 'tbg-mining-data[{entry.extra}]'"
            ) from error
        found = getattr(module, entry.attribute)
        assert isinstance(found, click.Command)
        return found

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Completes the subcommands from the table, without importing any."""
        rows = [(name, entry.help) for name, entry in self.subcommands.items()]
        rows += [(name, command.get_short_help_str()) for name, command in self.commands.items()]
        return [
            *(
                CompletionItem(name, help=text)
                for name, text in rows
                if name.startswith(incomplete)
            ),
            *click.Command.shell_complete(self, ctx, incomplete),
        ]

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """Lists the subcommands from the table, without importing any."""
        rows = [(name, entry.help) for name, entry in self.subcommands.items()]
        rows += [(name, command.get_short_help_str()) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=LazyGroup, subcommands=COMMANDS)
@click.version_option(package_name="tbg-mining-data", prog_name="tbg")
def main() -> None:
    """Mining data that can be trusted, from the share to the database."""


@main.group("devnet", cls=LazyGroup, subcommands=DEVNET_COMMANDS)
def devnet() -> None:
    """A Bitcoin network on one machine: node, pool, miner, simulated fleet."""


if __name__ == "__main__":
    main(prog_name="tbg")
