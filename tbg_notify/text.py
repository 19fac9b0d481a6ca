"""A message as text, safe in every channel.

Worker names, addresses and reasons are written by strangers. Our own texts have no markup
and no links, so everything is made plain: control characters go, mentions and links are
broken by an invisible character, and what a channel would read as markup is escaped in
that channel's way.
"""

import html
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Final, Literal

Style = Literal["plain", "markdown", "chat", "html"]
LONGEST_NAME: Final = 64

# Services that write plain text as it is, and those that know backslash escapes. All
# others may have a markup of their own.
PLAIN: Final = frozenset(
    [
        "ntfy",
        "ntfys",
        "json",
        "jsons",
        "xml",
        "xmls",
        "form",
        "forms",
        "gotify",
        "gotifys",
        "pover",
        "syslog",
        "rsyslog",
        "tgram",
        "mqtt",
        "mqtts",
        "dbus",
        "gnome",
        "macosx",
        "windows",
        "pbul",
        "prowl",
        "join",
        "bark",
        "barks",
    ]
)
MARKDOWN: Final = frozenset(["discord", "mmost", "mmosts", "zulip", "guilded", "revolt", "wxteams"])
MAIL: Final = frozenset(("mailto", "mailtos"))

_BREAK: Final = "\u200b"  # zero width space
_LINK: Final = re.compile(r"(@|:(?=//)|/(?=/)|(?<=www)\.|(?<=\w)\.(?=[^\W\d_]))", re.IGNORECASE)
_MARKUP: Final = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~=&:])")
# The same characters as they stand in East Asian texts: no chat service reads those.
_LOOKALIKES: Final = str.maketrans({char: chr(ord(char) + 0xFEE0) for char in "`*_~|<>[]&"})


@dataclass(frozen=True)
class Text:
    """What a person reads: a title, lines, and what to do."""

    title: str
    lines: tuple[str, ...] = ()
    action: str = ""
    table: tuple[tuple[str, ...], ...] = field(default=())  # the first row is its head


def name(text: str, longest: int = LONGEST_NAME) -> str:
    """A stranger's text on one line, without control and invisible characters."""
    kept = "".join(
        " " if char.isspace() else char
        for char in text
        if char.isspace() or unicodedata.category(char)[0] != "C"
    )
    kept = " ".join(kept.split())
    return kept if len(kept) <= longest else f"{kept[: longest - 1]}…"


def style_of(scheme: str, *, markdown: bool = False) -> Style:
    """How a service of this URL scheme reads text."""
    if scheme in MAIL:
        return "html"
    if markdown or scheme in MARKDOWN:
        return "markdown"
    return "plain" if scheme in PLAIN else "chat"


def safe(text: str, style: Style) -> str:
    """One line of a message, in which nothing is markup, a mention or a link."""
    flat = _LINK.sub(rf"\1{_BREAK}", name(text, 2000))
    if style == "markdown":
        return _MARKUP.sub(r"\\\1", flat)
    if style == "chat":
        return flat.translate(_LOOKALIKES)
    return html.escape(flat) if style == "html" else flat


def render(text: Text, style: Style) -> tuple[str, str]:
    """Title and body for a channel."""
    if style == "html":
        # The title is a mail's subject, which is plain.
        return safe(text.title, "plain"), _page(text)
    lines = [*text.lines, *(" · ".join(cell for cell in row if cell) for row in text.table)]
    if text.action:
        lines.append(text.action)
    if not lines:
        # Apprise sends no title without a body.
        return "", safe(text.title, style)
    return safe(text.title, style), "\n".join(safe(line, style) for line in lines)


_CELL: Final = 'style="padding:4px 14px 4px 0;border-bottom:1px solid #e5e5e5;text-align:left"'


def _page(text: Text) -> str:
    parts = [
        '<div style="font-family:system-ui,sans-serif;font-size:15px;line-height:1.5;color:#222;'
        'max-width:640px;border-left:4px solid #f7931a;padding:4px 18px">',
        f'<h2 style="font-size:18px;margin:6px 0">{safe(text.title, "html")}</h2>',
        *(f'<p style="margin:4px 0">{safe(line, "html")}</p>' for line in text.lines),
    ]
    if text.table:
        parts.append('<table style="border-collapse:collapse;margin:10px 0;font-size:14px">')
        for number, row in enumerate(text.table):
            tag = "td" if number else "th"
            cells = "".join(f"<{tag} {_CELL}>{safe(cell, 'html')}</{tag}>" for cell in row)
            parts.append(f"<tr>{cells}</tr>")
        parts.append("</table>")
    if text.action:
        parts.append(f'<p style="margin:10px 0;color:#555">{safe(text.action, "html")}</p>')
    return "".join([*parts, "</div>"])
