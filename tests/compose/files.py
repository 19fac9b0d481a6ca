"""docker-compose.yml and its neighbours, read for the static tests."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from tests.processes import ROOT

Service = dict[str, Any]

COMPOSE_TEXT: Final = (ROOT / "docker-compose.yml").read_text("utf-8")
COMPOSE: Final[dict[str, Any]] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: Final[dict[str, Service]] = COMPOSE["services"]

_VARIABLE: Final = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")
_EXAMPLE: Final = re.compile(
    r"(?P<off>#)?(?P<name>[A-Z][A-Z0-9_]*)=(?P<value>.*?)(?P<secret>\s*# secret)?"
)


class Variable(NamedTuple):
    """``${NAME:-default}`` or ``${NAME:?…}`` somewhere in the compose file."""

    name: str
    required: bool
    default: str


class Setting(NamedTuple):
    """A line of .env.example."""

    value: str
    secret: bool
    off: bool


def variables(text: str = COMPOSE_TEXT) -> list[Variable]:
    """Every variable that a text interpolates."""
    return [
        Variable(match["name"], match["kind"] == "?", match["rest"] or "")
        for match in _VARIABLE.finditer(text)
    ]


def passed_through() -> set[str]:
    """Variables that a service gets from .env where they are set, and not otherwise."""
    return {
        name
        for service in SERVICES.values()
        for name, value in service.get("environment", {}).items()
        if value is None
    }


def example() -> dict[str, Setting]:
    """The settings of .env.example, by name."""
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    matches = (_EXAMPLE.fullmatch(line) for line in lines)
    return {
        match["name"]: Setting(match["value"], bool(match["secret"]), bool(match["off"]))
        for match in matches
        if match
    }


def builds() -> dict[tuple[Path, Path], str]:
    """Context and Dockerfile of each build, and a service that has it."""
    found = {}
    for name, service in SERVICES.items():
        build = service.get("build")
        if build is None:
            continue
        if isinstance(build, str):
            build = {"context": build}
        context = ROOT / build["context"]
        found[context, context / build.get("dockerfile", "Dockerfile")] = name
    return found


def instructions(dockerfile: Path) -> Iterator[tuple[str, str]]:
    """Instructions of a Dockerfile with their arguments, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text("utf-8"), flags=re.MULTILINE)
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word.upper(), rest.strip()


def binds(service: Service) -> Iterator[tuple[Path, str]]:
    """Files and folders of the repository that a service mounts, and where."""
    for volume in service.get("volumes", []):
        if isinstance(volume, str) and volume.startswith("./"):
            source, target, *_ = volume.split(":")
            yield ROOT / source, target


def settings_of(conf: Path) -> dict[str, list[str]]:
    """The keys of a bitcoin.conf, sections aside, with every value of each."""
    found: dict[str, list[str]] = {}
    for line in conf.read_text("utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found
