"""Sentences that people read are plain: words that need a second reading stay out."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("tbg_core", "ingest", "tbg_dagster", "tbg_notify", "tbg_serve", "tbg", "devnet", "bench")
# "Tell" stands for log, post, send, publish and return: say which. One may tell things apart.
BANNED = re.compile(
    r"\b(amiss|anew|whence|somebody|whoever|whosoever|is owed|tells?|telling|told)\b(?!(\W+\w+){0,7}\W+apart\b)",
    re.IGNORECASE,
)
PAGES = [
    page
    for pattern in ("docs/*.md", "*.md", "devnet/**/*.md", "ckpool/*.md", "deploy/**/*.md")
    for page in sorted(ROOT.glob(pattern))
    if page.name != "CHANGELOG.md"
]


def spoken(path: Path) -> Iterator[tuple[int, str]]:
    """The comments, docstrings and help texts of a module, each with its line."""
    source = path.read_text("utf-8")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node.lineno, node.value.value
        if isinstance(node, ast.keyword) and node.arg in ("help", "description"):
            for part in ast.walk(node.value):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.lineno, part.value


def without_code(text: str) -> str:
    """Markdown without its blocks and spans of code."""
    return re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("room", ROOMS)
def test_comments_docstrings_and_help_texts_use_plain_words(room: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {match.group(0)}"
        for path in sorted((ROOT / room).rglob("*.py"))
        for line, text in spoken(path)
        if (match := BANNED.search(without_code(text)))
    ]
    assert not found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_use_plain_words(page: Path) -> None:
    assert not [match.group(0) for match in BANNED.finditer(without_code(page.read_text("utf-8")))]


def test_comments_of_sql_use_plain_words() -> None:
    paths = sorted([*(ROOT / "tbg_dagster").rglob("*.sql"), *(ROOT / "sql").rglob("*.sql")])
    found = [
        f"{path.relative_to(ROOT)}: {match.group(0)}"
        for path in paths
        for line in path.read_text("utf-8").splitlines()
        if (match := BANNED.search(line.partition("--")[2]))
    ]
    assert not found


def test_comments_of_the_c_module_use_plain_words() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match.group(0)}"
        for path in sorted((ROOT / "ckpool/src").glob("*.[ch]"))
        for comment in re.findall(r"/\*.*?\*/", path.read_text("utf-8"), re.DOTALL)
        if (match := BANNED.search(comment))
    ]
    assert not found


def test_the_look_at_words_finds_them() -> None:
    assert BANNED.search("the world is told of it")
    assert BANNED.search("Whoever reads this")
    assert not BANNED.search("extranonces tell two connections apart")
    assert not BANNED.search("told_at")
