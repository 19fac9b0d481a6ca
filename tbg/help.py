"""``tbg help``: the pages of docs/, in a terminal.

A wheel brings them along, so what one reads is about the version that one runs.
"""

import difflib
import re
from pathlib import Path
from typing import Final

import click
from click.shell_completion import CompletionItem
from rich.markdown import Markdown

from tbg import ROOMS
from tbg.terminal import terminal

PAGES: Final[dict[str, Path]] = {page.stem: page for page in sorted((ROOMS / "docs").glob("*.md"))}
"""The topics; the site's first page is none."""
PAGES.pop("index", None)

WIDTH: Final = 100
"""Longest line: a wider one is hard to read."""


def title(page: Path) -> str:
    """The first heading of a page, as plain text."""
    with page.open(encoding="utf-8") as lines:
        return next(line for line in lines if line.startswith("# "))[2:].strip().replace("`", "")


def words(text: str) -> str:
    """A page whose links to other pages name the command that shows them."""

    def link(found: re.Match[str]) -> str:
        name, page = found.groups()
        if not page:
            return name  # further up or down on this page
        shown = f"`tbg help {page}`"
        return shown if name == f"{page}.md" else f"{name} ({shown})"

    return re.sub(r"(?<!!)\[([^]]+)\]\((?:([\w-]+)\.md)?(?:#[\w-]+)?\)", link, text)


def rendered(page: Path) -> str:
    """A page as a terminal shows it; with styles only if the output is one."""
    console = terminal()
    console.width = min(console.width, WIDTH)
    with console.capture() as captured:
        console.print(Markdown(words(page.read_text("utf-8")), hyperlinks=False))
    return captured.get()


def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Topics and commands for a shell."""
    return [CompletionItem(name) for name in known(ctx) if name.startswith(incomplete)]


def known(ctx: click.Context) -> list[str]:
    """Topics, and the commands beside this one."""
    group = ctx.find_root().command
    commands = group.list_commands(ctx) if isinstance(group, click.Group) else []
    return list(dict.fromkeys([*PAGES, *commands]))


@click.command("help")
@click.argument("topic", required=False, shell_complete=complete)
@click.pass_context
def command(ctx: click.Context, topic: str | None) -> None:
    """Show a page of the documentation (TOPIC), or list them.

    The name of a command that has no page of its own shows what its --help does.

    \b
    Examples:
      tbg help
      tbg help guarantees
      tbg help archive | less
    """
    if topic is None:
        formatter = ctx.make_formatter()
        with formatter.section("Topics"):
            formatter.write_dl([(name, title(page)) for name, page in PAGES.items()])
        click.echo(formatter.getvalue() + "\nOne of them: tbg help TOPIC; a command: tbg help up")
    elif topic in PAGES:
        click.echo_via_pager(rendered(PAGES[topic]))
    elif topic in known(ctx):
        root = ctx.find_root()
        assert isinstance(root.command, click.Group)
        found = root.command.get_command(root, topic)
        assert found is not None
        with click.Context(found, info_name=topic, parent=root) as inner:
            click.echo(found.get_help(inner))
    else:
        near = ", ".join(difflib.get_close_matches(topic, known(ctx)))
        raise click.UsageError(
            f"there is no topic {topic!r}; " + (f"near it: {near}" if near else "all: tbg help")
        )
