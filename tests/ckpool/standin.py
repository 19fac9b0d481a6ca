"""Upstream's stand-in: our miniature of its sources, which builds with the autotools."""

import contextlib
import json
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from tests.processes import LIMIT, ROOT

SHAPES: Final = ROOT / "ckpool" / "tests" / "tree" / "shapes.py"
MAIN: Final = Path(__file__).parent / "standin.c"
MINER: Final = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx.rig"

# A configure.ac that behaves like upstream's: Stratum V2 turns itself on wherever its
# libraries are, as they are in the image's build.
CONFIGURE: Final = """\
AC_INIT([ckpool], [1.0])
AC_CONFIG_MACRO_DIR([m4])
AC_CONFIG_HEADERS([config.h])
AM_INIT_AUTOMAKE([foreign subdir-objects])
AC_PROG_CC
AC_PROG_CXX
AC_PROG_RANLIB
AC_ARG_ENABLE([sv2], [AS_HELP_STRING([--disable-sv2], [no Stratum V2])], [], [enable_sv2=auto])
have_sodium=yes
have_secp256k1=yes
if test "x$enable_sv2" != xno && test $have_sodium$have_secp256k1 = yesyes; then
  enable_sv2=yes
  AC_DEFINE([HAVE_SV2], [1], [Stratum V2 is built in])
fi
AM_CONDITIONAL([HAVE_SV2], [test "x$enable_sv2" = xyes])
AM_CONDITIONAL([HAVE_CAPNP], [false])
LIBS="$LIBS -lm -lpthread"
AC_CONFIG_FILES([Makefile src/Makefile])
AC_OUTPUT
"""


def stand_in(tree: Path) -> None:
    """Makes the tree: as upstream's is cloned, before anything is woven in."""
    subprocess.run([sys.executable, SHAPES, "current", tree], check=True, timeout=LIMIT)
    (tree / "configure.ac").write_text(CONFIGURE)
    (tree / "Makefile.am").write_text("SUBDIRS = src\n")
    (tree / "autogen.sh").write_text("#!/bin/sh\necho 'a submodule is fetched' >&2\nexit 1\n")
    (tree / "autogen.sh").chmod(0o755)
    for name, text in {
        "ckpool.c": MAIN.read_text(),
        "generator.c": "int generator;\n",
        "libckpool.c": "int libckpool;\n",
        "notifier.c": "int main(void) { return 0; }\n",
        "sv2.c": "int sv2;\n",
        "sv2_noise.c": "int sv2_noise;\n",
    }.items():
        (tree / "src" / name).write_text(text)


def mine(port: int, hashes: list[str], tls: ssl.SSLContext | None = None) -> list[Any]:
    """Authorises at a stand-in that runs, submits shares of these hashes, and leaves.

    Returns:
        The answers.
    """
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(
            socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        )
        if tls:
            connection = stack.enter_context(
                tls.wrap_socket(connection, server_hostname="localhost")
            )
        stream = connection.makefile("rw")

        def ask(method: str, *params: str) -> Any:
            request = {"id": 1, "method": method, "params": params}
            # Without blanks, as the stand-in reads it.
            stream.write(json.dumps(request, separators=(",", ":")) + "\n")
            stream.flush()
            return json.loads(stream.readline())["result"]

        answers = [ask("mining.subscribe"), ask("mining.authorize", MINER)]
        answers += [ask("mining.submit", MINER, hash_) for hash_ in hashes]
        return answers
