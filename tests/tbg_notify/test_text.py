"""Texts: a stranger's name is data in every channel."""

import html
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tbg_notify import words
from tbg_notify.channel import send
from tbg_notify.kinds import Message, Worker
from tbg_notify.routes import Route
from tbg_notify.text import LONGEST_NAME, Style, Text, name, render, safe, style_of
from tests.tbg_notify.channels import Web, web

HOSTILE = [
    "@everyone",
    "<@123456>",
    "**bold** _it_ `code`",
    "[click](https://evil.example/x)",
    "https://evil.example",
    "www.evil.example",
    "<script>alert(1)</script>",
    "a\r\nSubject: owned\n\nsecond",
    "x\u202egpj.exe",
    "\x1b[31mred",
    "# head",
    "<!channel>",
    "</pre><b>",
    "*x*",
    "[a](http://evil)",
    "@here \u2066\u200f\u061c\ufeffx",
    "1. a\u2028- b\u2029> c\x85=== d",
    "&lt;b&gt; &#60;i&#62;",
    "<img src=x onerror=alert(1)>" * 400,
    "~~gone~~ ||spoiler|| <t:0:R> :smile:",
    "\\*escaped\\*",
]
# Anything at all, and more often what means something to a channel.
TOKENS = [*HOSTILE, "*", "_", "`", "[", "](", ")", "<", ">", "&", "@", "://", "\\", "\n", "|", "~"]
NAMES = st.one_of(
    st.text(), st.lists(st.sampled_from(TOKENS)).map("".join), st.text().map(lambda t: t * 500)
)
STYLES: list[Style] = ["plain", "markdown", "chat", "html"]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_name_is_neither_mention_nor_link_nor_line_nor_control(
    hostile: str, style: Style
) -> None:
    shown = safe(f"{hostile}: silent", style)
    assert not re.search(r"[\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069]", shown)
    assert "@everyone" not in shown
    assert "://" not in shown
    assert "www.e" not in shown
    assert "evil.e" not in shown
    if style == "html":
        assert "<" not in shown
    if style == "markdown":
        assert not re.search(r"(?<!\\)[*_`\[\]<>#]", shown)
    if style == "chat":
        assert not re.search(r"[*_`\[\]<>~|]", shown)


@given(st.text(), st.sampled_from(STYLES))
def test_any_name_stays_on_one_line_and_in_a_title(text: str, style: Style) -> None:
    title, body = render(Text(f"{name(text)} offline", (f"{name(text)}: x",)), style)
    assert len(title.splitlines()) <= 1
    if style != "html":
        assert len(body.splitlines()) <= 1
    else:
        # Every tag in the page is one of ours.
        assert not re.findall(r"<(?!/?(?:div|h2|p|table|tr|td|th)\b)", body)
        assert html.unescape(safe(text, "html")) == safe(text, "plain")


def test_a_long_name_is_cut_and_an_honest_one_stays() -> None:
    assert name("rig_01-garage") == "rig_01-garage"
    assert len(name("x" * 500)) == 64


def test_an_unknown_service_gets_the_careful_style() -> None:
    assert style_of("slack") == style_of("anything-new") == "chat"
    assert style_of("ntfys") == "plain"
    assert style_of("ntfys", markdown=True) == style_of("discord") == "markdown"
    assert style_of("mailtos") == "html"


@pytest.mark.parametrize("style", STYLES)
def test_a_text_of_a_title_alone_has_a_body(style: Style) -> None:
    _, body = render(Text("Recovered: x"), style)
    assert "Recovered" in body


# --- What a channel's reader makes of it ----------------------------------------------------


def told(user: str, worker: str) -> Text:
    """A message with a stranger's names in its title, its lines and its table."""
    one = Worker(user, worker, datetime(2026, 11, 26, tzinfo=UTC), 8)
    message = Message(0, "", ("worker_offline",), "warning", datetime.now(UTC), None, (one,))
    text = words.workers([(message, [one])], ZoneInfo("UTC"), [words.worker_name(one)])
    rows = (("best share", f"1G, by {words.worker_name(one)}"), ("rejects", name(worker, 400)))
    return Text(text.title, text.lines, text.action, rows)


class Page(HTMLParser):
    """What a browser sees: tags, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {key for key, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.tags.add(f"!--{data}")

    def handle_decl(self, decl: str) -> None:
        self.tags.add(f"!{decl}")

    def handle_pi(self, data: str) -> None:
        self.tags.add(f"?{data}")


@given(NAMES, NAMES)
@example("@everyone", "x" * 10_240)
def test_a_browser_sees_our_tags_and_the_name_as_text(user: str, worker: str) -> None:
    text = told(user, worker)
    page = Page(render(text, "html")[1])
    assert page.tags <= {"div", "h2", "p", "table", "tr", "td", "th"}
    assert page.attributes == {"style"}
    cells = [cell for row in text.table for cell in row]
    assert page.text == "".join(
        safe(part, "plain") for part in (text.title, *text.lines, *cells, text.action)
    )


@given(NAMES, NAMES)
@example("@everyone", "x" * 10_240)
def test_a_markdown_reader_sees_paragraphs_of_text_alone(user: str, worker: str) -> None:
    reader = MarkdownIt("commonmark", {"html": True}).enable(["strikethrough", "table"])
    text = told(user, worker)
    _, body = render(text, "markdown")
    tokens = reader.parse(body)
    assert {token.type for token in tokens} == {"paragraph_open", "inline", "paragraph_close"}
    children = [child for token in tokens for child in token.children or []]
    assert {child.type for child in children} <= {"text", "softbreak"}
    read = "".join(child.content or "\n" for child in children)
    # What stands at the ends of lines is no text to Markdown.
    plain = render(text, "plain")[1]
    assert read.split() == plain.split()


@given(NAMES, NAMES)
@example("@everyone", "x" * 10_240)
def test_a_chat_reader_sees_no_sign_that_it_knows(user: str, worker: str) -> None:
    title, body = render(told(user, worker), "chat")
    assert not set(title + body) & set("`*_~|<>[]&")
    assert not re.search(r"@\w|://", title + body)


@pytest.fixture(scope="module")
def hook() -> Iterator[Web]:
    with web() as served:
        yield served


@settings(max_examples=40)
@given(NAMES, NAMES)
@example("@everyone", "x" * 10_240)
def test_a_program_gets_the_name_as_one_string_of_json(hook: Web, user: str, worker: str) -> None:
    text = told(user, worker)
    hook.taken.clear()
    send(Route(to=f"json://127.0.0.1:{hook.port}/x"), text)
    (taken,) = hook.taken
    assert (taken["title"], taken["message"]) == render(text, "plain")
    assert len(taken["title"]) < 2 * LONGEST_NAME
    assert len(taken["message"]) < 1000
