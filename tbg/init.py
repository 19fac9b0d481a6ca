"""``tbg init``: writes the .env file of docker compose, with random secrets.

``.env.example`` lists what can be set; a variable whose line ends in ``# secret`` gets
a random value. What a .env sets already stays: run this again after an upgrade, and it
adds what is new.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import click

from tbg import outputs
from tbg.stack.passwords import new_password
from tbg_core.files import write_private

Network = Literal["signet", "regtest", "devnet"]
NETWORKS: Final[tuple[Network, ...]] = get_args(Network)
EXAMPLE: Final = ".env.example"

_ASSIGNMENT: Final = re.compile(r"(?P<name>[A-Z][A-Z0-9_]*)=(?P<value>.*?)(?P<secret>\s*# secret)?")


@dataclass(frozen=True)
class Initialised:
    """What a run of :func:`initialise` wrote.

    Attributes:
        added: names of variables, in the order of the file.
        secrets: those of them that hold a new secret.
    """

    path: Path
    added: list[str]
    secrets: list[str]


def initialise(example: Path, target: Path, network: Network) -> Initialised:
    """Writes ``target``, or adds to it what it lacks.

    Args:
        example: the list of variables, as lines NAME=value.
        target: readable by its owner alone afterwards.
        network: whose node and pool compose starts, unless the file names one already.

    Raises:
        click.ClickException: when there is no example, or a file cannot be read or written.
    """
    try:
        template = example.read_text("utf-8").splitlines()
        before = target.read_text("utf-8") if target.exists() else None
    except OSError as error:
        raise click.ClickException(
            f"{error.filename}: {error.strerror} (this needs a checkout of the repository: run "
            "it in the folder of docker-compose.yml, or name that with --directory)"
        ) from error
    known = _names(before or "")
    added: list[str] = []
    secrets: list[str] = []
    lines: list[str] = []
    for line in template:
        match = _ASSIGNMENT.fullmatch(line)
        if match is None:
            if before is None:
                lines.append(line)
            continue
        name, value = match["name"], match["value"]
        if name in known:
            continue
        if match["secret"]:
            value = new_password()
            secrets.append(name)
        elif name == "COMPOSE_PROFILES":
            value = network
        added.append(name)
        lines.append(f"{name}={value}")
    if added:
        start = "" if before is None else before.rstrip("\n") + "\n\n"
        try:
            write_private(target, start + "\n".join(lines) + "\n")
        except OSError as error:
            raise click.ClickException(f"{target} cannot be written: {error}") from error
    return Initialised(target, added, secrets)


def _names(text: str) -> set[str]:
    """The variables that a .env sets; an empty one does not count."""
    matches = (
        re.match(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(\S?)", line) for line in text.splitlines()
    )
    return {match[1] for match in matches if match and match[2] not in ("", "#")}


@click.command("init")
@click.option(
    "--network",
    type=click.Choice(NETWORKS),
    default="signet",
    show_default=True,
    help="Whose node and pool compose starts; COMPOSE_PROFILES in .env changes it later.",
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    default=Path(),
    help="The folder of docker-compose.yml.  [default: this one]",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was written, without secrets.")
def command(network: Network, directory: Path, as_json: bool) -> None:
    """Write the .env file of docker compose, with random passwords.

    Existing values stay. Run it again after an upgrade: it adds new ones.

    \b
    Examples:
      tbg init
      tbg init --network devnet
    """
    done = initialise(directory / EXAMPLE, directory / ".env", network)
    if as_json:
        outputs.show_line(outputs.WrittenSettings, {**vars(done), "path": str(done.path)})
    elif done.added:
        click.echo(
            f"{done.path}: {len(done.added)} variables written, {len(done.secrets)} of them "
            "random secrets; only you may read it"
        )
    else:
        click.echo(f"{done.path} has everything already")
