"""Texts: a stranger's name is data in every channel."""

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbg.notify.text import Style, Text, name, render, safe, style_of

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
]
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
