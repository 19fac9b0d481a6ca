"""``tbg docs``: writes the pages that follow from the code.

docs/events.md (for people) and docs/events.schema.json (JSON Schema 2020-12, for
programs) both come from the models in :mod:`tbg_core.events`, docs/messages.md from
:mod:`tbg_core.messages`, docs/json.md from :mod:`tbg.outputs`, docs/schema.md from sql/, docs/settings.md from
:mod:`ingest.settings` and :mod:`tbg_dagster.resources`, so they cannot differ from what the
programs accept.
"""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Final

import click
from pydantic import BaseModel, Field, RootModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from ingest.settings import ReceiverSettings, StageSettings, WriterSettings
from tbg import ROOMS
from tbg.outputs import OUTPUTS, PARTS
from tbg_core.events import (
    CONTRACT_VERSION,
    EVENTS,
    HEX,
    INT64_MAX,
    MAX_AHEAD,
    MAX_DATAGRAM,
    MAX_DIFFICULTY,
    MAX_MONEY,
    MAX_PROOF,
    NO_NUL,
    STATUS,
    EngineStatus,
    EngineStatusData,
    Event,
    Proof,
)
from tbg_core.messages import (
    MESSAGES,
    NOTIFY,
    NamedWorker,
    Payload,
    Place,
    Released,
    StillWaiting,
    WeekRoots,
)
from tbg_core.names import (
    ALERTS_STREAM,
    BLOCK_STATUS_STREAM,
    BLOCKS_CHANNEL,
    WEEKLY_RESET_STREAM,
)
from tbg_core.settings import RetentionSettings

INTRODUCTION: Final = f"""\
# Events, contract version {CONTRACT_VERSION}

<!-- Written by `tbg docs` from tbg_core/events.py. Change the models, not this page. -->

An engine sends each event as one UTF-8 JSON object in one datagram of at most
{MAX_DATAGRAM} bytes. `docs/events.schema.json` says the same as a JSON Schema, and
`tests/events/` holds one golden datagram per event, which is shown here, and
`tests/events/proven/` those of a best and a block with their proof.

- `?` marks a field that may be left out or null; `*` one that may be left out or
  null as well, and that our own engines always send. All others are required.
- Fields that the contract does not name are kept and passed on.
- Difficulty 1 stands for 2^32 hashes on average; fractions are normal for small
  miners. Hashrates are in hashes per second, amounts in satoshis.
- No text may hold U+0000, which the database cannot hold.
- What does not fit goes to the dead-letter stream and table with its raw bytes and
  a reason, and is counted. It never stops the daemon.
"""


SETTINGS_INTRODUCTION: Final = """\
# Settings

<!-- Written by `tbg docs` from ingest/settings.py and tbg_dagster/resources/. Change the
     settings, not this page. -->

They come from the environment. A wrong or missing one is named at the start, with what
would be right, and the program ends.
"""


MESSAGES_INTRODUCTION: Final = f"""\
# Messages

<!-- Written by `tbg docs` from tbg_core/messages.py. Change the models, not this page. -->

What other programs, the game's backend first, may read from Redis. `docs/events.md` has the
events that engines send; each of them is an entry of a stream too (`mining:share_submitted`
and so on).

| key | kind | what it holds |
| --- | --- | --- |
| `{WEEKLY_RESET_STREAM}` | stream | a closed week's result, and each correction |
| `{BLOCK_STATUS_STREAM}` | stream | each change of a block's state |
| `{ALERTS_STREAM}` | stream | silent workers, failed runs and failing checks |
| `{BLOCKS_CHANNEL}` | channel | each found block at once: the `data` of its `block_found` |
| `leaderboard:best_diff:<Monday>` | sorted set | user → best share difficulty of that week |

An entry of a stream has four fields: `event` (the stream's name without `mining:`), `timestamp`
(microseconds since the Unix epoch), `source`, and `data`, a JSON object as below. An entry is
written once; its id is its place in the order. `?` marks a field that may be left out. Fields may be
added: a reader passes over those that it does not know.

Messages named `{NOTIFY}…` wait in the table `outbox` for the notifier, and never reach Redis.
Users and workers are texts of strangers: data everywhere.
"""


OUTPUTS_INTRODUCTION: Final = """\
# What `--json` prints

<!-- Written by `tbg docs` from tbg/outputs.py. -->

`?` marks a field that may be left out. Fields may be added; one that is here keeps its name, its
unit and its meaning. Users, workers and details are texts of strangers: data everywhere. What
concerns people, as progress, goes to the standard error.

| command | prints |
| --- | --- |
"""
_SHAPES: Final = {"object": "one", "list": "a list of", "lines": "on each line one"}


SCHEMA_INTRODUCTION: Final = """\
# Schema

<!-- Written by `tbg docs` from the comments in sql/. Change a comment by the next migration. -->

Every table and view of the database, and what each column holds, with its unit. Times are in UTC.
Numbers of users, workers, blocks and engine boots mean nothing outside their database.
"""

# One statement of a migration. Later ones replace earlier ones.
_COMMENT: Final = re.compile(
    r"^comment on (?:table|view|column) (\w+)(?:\.(\w+))? is '((?:[^']|'')*)';$", re.MULTILINE
)


class _Schema(GenerateJsonSchema):
    """JSON Schema without the titles of fields, which repeat their names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 pydantic's signature
        return False


def render_schema() -> str:
    """Returns docs/events.schema.json."""
    any_event: Any = Annotated[reduce(or_, EVENTS.values()), Field(discriminator="event")]
    document = {
        "$schema": GenerateJsonSchema.schema_dialect,
        "title": f"The Bitcoin Game: mining events, contract version {CONTRACT_VERSION}",
        **TypeAdapter(any_event).json_schema(schema_generator=_Schema),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def render_markdown(golden: Path) -> str:
    """Returns docs/events.md.

    Args:
        golden: folder with one ``<event>.json`` per event.
    """
    parts = [INTRODUCTION, "## Envelope\n", _table(Event)]
    hour = timedelta(microseconds=MAX_AHEAD) // timedelta(hours=1)
    parts.append(
        f"`timestamp` lies between 2009 and {hour} hour ahead of the receiver's clock. "
        "`data` is an object, as follows.\n"
    )
    for name, model in EVENTS.items():
        data = model.model_fields["data"].annotation
        if not (isinstance(data, type) and issubclass(data, BaseModel)):
            raise TypeError(f"{name}: data is {data!r}, which is not a model")
        parts += [
            f"## {name}\n",
            f"{_first_line(model)}\n",
            _table(data),
            _example(golden / f"{name}.json"),
        ]
    parts += [
        f"## {STATUS}\n",
        f"{_first_line(EngineStatus)} It is no event: it has no `seq`, takes no number, and goes "
        "to no stream. An engine sends it soon after it has connected, about every 10 seconds "
        "after that, and last of all when it stops. The next boot of an engine sends it for the "
        "boot before, whose `instance` it names. Repeating it does no harm. The highest "
        "`last_seq` counts ([the end of a boot](guarantees.md#the-end-of-a-boot)).\n",
        _table(EngineStatusData),
        _example(golden.resolve().parent / "messages" / f"{STATUS}.json"),
        "## proof\n",
        f"{_first_line(Proof)} Together they have fewer than {MAX_PROOF} hex digits. What does "
        "not fit refuses the event; an event without proof is as valid. How to check one: "
        "[check-your-best.md](check-your-best.md).\n",
        _table(Proof),
        _example(golden / "proven" / "share_best_diff.json"),
    ]
    return "\n".join(parts)


def render_messages(golden: Path) -> str:
    """Returns docs/messages.md.

    Args:
        golden: folder with one ``<model>.json`` per model of a message.
    """
    parts = [MESSAGES_INTRODUCTION]
    streams: dict[type[Payload], list[str]] = {}
    for stream, models in MESSAGES.items():
        for model in models:
            streams.setdefault(model, []).append(f"`{stream}`")
    for model, names in streams.items():
        parts += [
            f"## {model.__name__}\n",
            f"{_first_line(model)} In {', '.join(names)}.\n",
            _table(model),
            _example(golden / f"{snake_case(model.__name__)}.json"),
        ]
    for part in (Place, Released, StillWaiting, WeekRoots, NamedWorker):
        parts += [f"## {part.__name__}\n", f"{_first_line(part)}\n", _table(part)]
    return "\n".join(parts)


def render_outputs(golden: Path) -> str:
    """Returns docs/json.md.

    Args:
        golden: folder with one ``<model>.json`` per model of an output.
    """
    rows = [
        f"| `tbg {command} --json` | {_SHAPES[shape]} [{model.__name__}](#{model.__name__.lower()}) |"
        for command, (model, shape) in OUTPUTS.items()
    ]
    parts = [OUTPUTS_INTRODUCTION + "\n".join(rows) + "\n"]
    for model, _ in OUTPUTS.values():
        parts += [f"## {model.__name__}\n", f"{_first_line(model)}\n"]
        if not issubclass(model, RootModel):
            parts.append(_table(model))
        parts.append(_example(golden / f"{snake_case(model.__name__)}.json"))
    for part in PARTS:
        parts += [f"## {part.__name__}\n", f"{_first_line(part)}\n", _table(part)]
    return "\n".join(parts)


def render_tables(sql: Path) -> str:
    """Returns docs/schema.md.

    Args:
        sql: folder of the migrations; of the flavours' own, plain PostgreSQL's are read.
    """
    tables: dict[str, dict[str, str]] = {}
    for path in sorted(
        [*sql.glob("*.sql"), *sql.glob("postgresql/*.sql")], key=lambda one: one.stem
    ):
        for table, column, text in _COMMENT.findall(path.read_text()):
            tables.setdefault(table, {})[column] = text.replace("''", "'")
    parts = [SCHEMA_INTRODUCTION]
    for table, columns in sorted(tables.items()):
        rows = ["| column | meaning |", "| --- | --- |"]
        rows += [f"| `{column}` | {text} |" for column, text in columns.items() if column]
        parts += [f"## {table}\n", f"{columns['']}\n", "\n".join(rows) + "\n"]
    return "\n".join(parts)


def snake_case(name: str) -> str:
    """The file name of a model: ``weekly_reset`` of ``WeeklyReset``."""
    return re.sub(r"(?<=.)([A-Z])", r"_\1", name).lower()


def render_settings() -> str:
    """Returns docs/settings.md."""
    # Imported here: the pages about events need no Dagster.
    from dagster import ConfigurableResource

    from tbg_dagster.resources import (
        Archive,
        BitcoinNode,
        Database,
        RedisServer,
        Thresholds,
    )
    from tbg_dagster.resources.environment import variable_of
    from tbg_notify.settings import NotifierSettings
    from tbg_serve.settings import ServeSettings

    inherited = StageSettings.model_fields.keys() | RetentionSettings.model_fields.keys()
    sections: list[tuple[str, type[BaseModel], str]] = [
        ("Both stages of the daemon", StageSettings, ""),
        ("Receiver", ReceiverSettings, ""),
        ("Writer", WriterSettings, ""),
        ("Retention: writer and `tbg migrate`", RetentionSettings, ""),
        ("Notifier", NotifierSettings, ""),
        ("`tbg serve`", ServeSettings, ""),
        ("Batch side: database", Database, "DATABASE_"),
        ("Batch side: Redis", RedisServer, "REDIS_"),
        ("Batch side: node", BitcoinNode, "BITCOIN_RPC_"),
        ("Batch side (and `tbg migrate`): archive", Archive, "ARCHIVE_"),
        ("Batch side: windows, limits and delays", Thresholds, "TBG_"),
    ]
    parts = [SETTINGS_INTRODUCTION]
    for title, model, prefix in sections:
        rows = [f"## {title}", "", "| variable | default | meaning |", "| --- | --- | --- |"]
        for name, field in model.model_fields.items():
            if model in (ReceiverSettings, WriterSettings) and name in inherited:
                continue
            default = "**required**" if field.is_required() else f"`{field.default}`"
            if field.default in ("", None):
                default = "empty"
            variable = f"{prefix}{name.upper()}"
            if issubclass(model, ConfigurableResource):
                variable = variable_of(model, name, prefix)
            rows.append(f"| `{variable}` | {default} | {field.description} |")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().split("\n")[0]


def _example(golden: Path) -> str:
    datagram = json.loads(golden.read_text())
    return f"```json\n{json.dumps(datagram, indent=2, ensure_ascii=False)}\n```\n"


def _table(model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    rows = ["| field | type | bounds | meaning |", "| --- | --- | --- | --- |"]
    for name, field in schema["properties"].items():
        arms = [arm for arm in field.get("anyOf", [field]) if arm.get("type") != "null"]
        required = name in schema.get("required", ())
        nullable = required and len(arms) < len(field.get("anyOf", [field]))
        mark = "" if required else "*" if field.get("always_sent") else "?"
        kind = _kind(arms[0]) + (" or null" if nullable else "")
        cells = [f"`{name}`{mark}", kind, "; ".join(_bounds(arms[0])), _meaning(field, arms[0])]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _meaning(field: dict[str, Any], arm: dict[str, Any]) -> str:
    return str(field.get("description") or arm.get("description", ""))


def _kind(arm: dict[str, Any]) -> str:
    """The JSON type of a field; a model's name links to its table."""
    if "$ref" in arm:
        return f"[object](#{arm['$ref'].rpartition('/')[2].lower()})"
    inner = arm.get("additionalProperties")
    if isinstance(inner, dict) and "$ref" in inner:
        return f"object of [objects](#{inner['$ref'].rpartition('/')[2].lower()})"
    if "$ref" in arm.get("items", {}):
        return f"[list](#{arm['items']['$ref'].rpartition('/')[2].lower()})"
    return str(arm.get("type", "text"))


_NAMED: Final = {MAX_MONEY: "21 million BTC", MAX_DIFFICULTY: "2^224"}


def _bounds(arm: dict[str, Any]) -> Iterator[str]:
    """Says a field's JSON Schema constraints in words."""
    if "items" in arm and "$ref" not in arm["items"]:
        yield f"each {'; '.join(_bounds(arm['items']))}"
    shortest, longest = arm.get("minLength", 0), arm.get("maxLength")
    if longest is not None and shortest == longest:
        yield f"{longest} characters"
    elif longest is not None:
        yield f"{shortest} to {longest} characters" if shortest else f"≤ {longest} characters"
    if "minimum" in arm:
        yield f"≥ {arm['minimum']}"
    # 2^63 - 1 is what the database's integers hold, not a bound that matters.
    if (most := arm.get("maximum", INT64_MAX)) != INT64_MAX:
        yield f"≤ {_NAMED.get(most, most)}"
    # NO_NUL is said once, above all tables.
    if (pattern := arm.get("pattern", NO_NUL)) != NO_NUL:
        yield "hex, whole bytes" if pattern == HEX else f"`{pattern}`"
    if "enum" in arm:
        yield ", ".join(f"`{value}`" for value in arm["enum"])


@click.command("docs")
@click.option("--check", is_flag=True, help="Write nothing; fail if a page differs.")
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=ROOMS,
    help="The checkout; its docs/ is written and its tests/events/ read.  [default: this one]",
)
def command(check: bool, root: Path) -> None:
    """Write the pages about events, messages, outputs, tables and settings from the code.

    \b
    Examples:
      tbg docs
      tbg docs --check
    """
    golden = root / "tests" / "events"
    if not golden.is_dir():
        raise click.ClickException(
            f"{golden} is missing: this needs a checkout of the repository, named with --root"
        )
    pages = {
        root / "docs" / "events.md": render_markdown(golden),
        root / "docs" / "events.schema.json": render_schema(),
        root / "docs" / "json.md": render_outputs(golden.parent / "outputs"),
        root / "docs" / "messages.md": render_messages(golden.parent / "messages"),
        root / "docs" / "schema.md": render_tables(ROOMS / "sql"),
        root / "docs" / "settings.md": render_settings(),
    }
    differing = [
        path for path, text in pages.items() if not path.exists() or path.read_text() != text
    ]
    names = ", ".join(str(path.relative_to(root)) for path in differing)
    if check and differing:
        raise click.ClickException(f"{names} differ from the code: run tbg docs")
    for path in differing:
        path.parent.mkdir(exist_ok=True)
        path.write_text(pages[path])
    click.echo(f"wrote {names}" if differing else "the pages say what the code says")
