#!/usr/bin/env python3
# Part of The Bitcoin Game's ckpool fork.
# Copyright (C) 2026 The Bitcoin Game
# SPDX-License-Identifier: GPL-3.0-or-later
"""The test tree in the shapes that upstream has had, all made from tests/tree/current.

  current  as at the pinned commit
  pinned   as at 42e5e5c8, the pin before: rejects are summed in add_submit(), a
           suggested difficulty has no bound, __kill_instance() has fewer callers
  older    as before that: the pool is an argument, its fields are reached by arrow,
           shares before the first work have no word of their own, and there is no
           Stratum V2; a share that could not be read ends in a block of statements
  solo     as older, of the trees that solo pools run: difficulties are fractions

Usage: shapes.py SHAPE FOLDER
"""

import re
import shutil
import sys
from pathlib import Path

CURRENT = Path(__file__).resolve().parent / "current"

TAKE_THE_POOL = (
    "block_update", "block_solve", "block_reject", "client_auth", "add_submit",
    "test_blocksolve", "submission_diff", "parse_submit", "suggest_diff", "sauth_process",
    "add_base", "__kill_instance", "drop_subclients", "submit_node_block",
)  # fmt: skip


def changed(text: str, looks: str, new: str) -> str:
    """The text with the one place that looks so made new."""
    text, count = re.subn(looks, new, text, flags=re.DOTALL | re.MULTILINE)
    if count != 1:
        raise ValueError(f"{count} places look like /{looks}/, not 1")
    return text


def without(text: str, looks: str) -> str:
    """The text without the one place that looks so."""
    return changed(text, looks, "")


def function(name: str) -> str:
    """How a whole function of the tree looks, with the comment above it."""
    return rf"^(?:/\*(?:(?!\*/).)*?\*/\n)?static [^\n]*\b{name}\([^{{}};]*\)\n\{{\n.*?^\}}\n\n"


def pinned(text: str) -> str:
    for name in ("account_client_share", "drop_subclients", "add_instance_once"):
        text = without(text, function(name))
    text = text.replace(
        "\taccount_client_share(sdata, diff, valid);\n",
        "\tif (!valid)\n\t\tsdata->stats.unaccounted_rejects += (int64_t)diff;\n",
    )
    return without(text, r"\t/\* What no hardware reaches.*?return;\n")


def older(text: str) -> str:
    text = pinned(text)
    for name in TAKE_THE_POOL:
        text = re.sub(rf"(?m)^(static [\w ]*\b{name}\()", r"\1__maybe_unused ckpool_t *ckp, ", text)
        text = re.sub(rf"(?m)^(\t.*?\b{name}\()", r"\1ckp, ", text)
    for name in ("stratifier", "statsupdate"):
        text = re.sub(
            rf"(\*{name}\(__maybe_unused void \*arg\)\n{{\n)", r"\1\tckpool_t *ckp = arg;\n", text
        )
    text = text.replace("ckpool.", "ckp->").replace('ckp->h"', 'ckpool.h"')
    text = without(text, r"#ifdef WITH_SV2.*?#endif\n")
    text = without(text, r"\tif \(!sdata->current_workbase\) \{.*?\n\t\}\n")
    return changed(
        text,
        r"(\tif \(!share\))\n(\t\tLOGINFO\([^;]*;\n)",
        r"\1 {\n\t\tclient->reject++;\n\2\t}\n",
    )


def solo(text: str) -> str:
    text = older(text)
    text = changed(
        text,
        r"\tint64_t id, diff, old_diff, suggest_diff;\n",
        "\tint64_t id;\n\tdouble diff, old_diff, suggest_diff;\n",
    )
    text = changed(
        text, r"const char \*method, int64_t sdiff\)", "const char *method, double sdiff)"
    )
    text = changed(text, r"\tint64_t optimal = ", "\tdouble optimal = ")
    text = changed(text, r"\tint64_t mindiff;\n", "\tdouble mindiff;\n")
    text = changed(text, r"\tint64_t mindiff = ", "\tdouble mindiff = ")
    return changed(text, r'"At least %"PRId64, mindiff', '"At least %f", mindiff')


def connector(text: str) -> str:
    """The connector of the older shapes: the pool is an argument there as well."""
    text = changed(text, r"(bool parse_client_msg\()", r"\1__maybe_unused ckpool_t *ckp, ")
    return changed(text, r"(= parse_client_msg\()", r"\1NULL, ")


SHAPES = {"current": lambda text: text, "pinned": pinned, "older": older, "solo": solo}


def make(shape: str, folder: Path) -> None:
    """Puts the tree in that shape into a folder, in place of what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(CURRENT, folder)
    source = folder / "src" / "stratifier.c"
    source.write_text(SHAPES[shape](source.read_text()))
    if shape in ("older", "solo"):
        source = folder / "src" / "connector.c"
        source.write_text(connector(source.read_text()))


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in SHAPES:
        sys.exit(__doc__)
    make(sys.argv[1], Path(sys.argv[2]))
