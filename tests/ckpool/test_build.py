"""What the Dockerfile runs, run here on a stand-in for upstream's tree."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ckpool.test_papers import CKPOOL, CONFIGS, DOCKERFILE, instructions
from tests.processes import LIMIT

# A configure.ac that behaves like upstream's: Stratum V2 turns itself on wherever its
# libraries are, as they are in the image's build.
CONFIGURE = """\
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
MAIN = r"""
#include <unistd.h>
#include "ckpool.h"
#include "stratifier.h"

ckpool_t ckpool;

void logmsg(int level, const char *format, ...)
{
	(void)level;
	(void)format;
}

int main(int argc, char **argv)
{
	const char *conf = "";
	int option, test = 0;

	while ((option = getopt(argc, argv, "hTBqc:s:")) != -1) {
		if (option == 'h')
			return puts("-T | --test-config") < 0;
		test |= option == 'T';
		if (option == 'c')
			conf = optarg;
	}
	if (!test)
		return stratifier(NULL) != NULL;
	if (access(conf, R_OK))
		return 1;
	printf("Configuration check of %s passed\n", conf);
	return 0;
}
"""


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    """A woven tree that builds with the autotools."""
    for tool in ("autoreconf", "automake", "spatch", "g++"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}: apt-get install autoconf automake libtool coccinelle g++")
    tree = tmp_path / "src"
    shapes = CKPOOL / "tests" / "tree" / "shapes.py"
    subprocess.run([sys.executable, shapes, "current", tree], check=True, timeout=LIMIT)
    (tree / "configure.ac").write_text(CONFIGURE)
    (tree / "Makefile.am").write_text("SUBDIRS = src\n")
    (tree / "autogen.sh").write_text("#!/bin/sh\necho 'a submodule is fetched' >&2\nexit 1\n")
    (tree / "autogen.sh").chmod(0o755)
    for name, text in {
        "ckpool.c": MAIN,
        "generator.c": "int generator;\n",
        "libckpool.c": "int libckpool;\n",
        "notifier.c": "int main(void) { return 0; }\n",
        "sv2.c": "int sv2;\n",
        "sv2_noise.c": "int sv2_noise;\n",
    }.items():
        (tree / "src" / name).write_text(text)
    subprocess.run([CKPOOL / "weave", tree], check=True, stdout=subprocess.DEVNULL, timeout=LIMIT)
    return tree


def instruction(part: str) -> str:
    """The one RUN instruction that has that part."""
    (found,) = (line for line in instructions() if line.startswith("RUN ") and part in line)
    return found.removeprefix("RUN ")


def build(tree: Path, command: str) -> subprocess.CompletedProcess[str]:
    hardening = re.search(r'(?m)^ARG HARDENING="(.*)"$', DOCKERFILE)
    assert hardening
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("/out/", f"{tree.parent}/out/")],
        cwd=tree,
        env={**os.environ, "HARDENING": hardening[1]},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.timeout(600)
def test_stratum_v2_is_left_out_where_its_libraries_are(upstream: Path, tmp_path: Path) -> None:
    command = instruction("./configure")
    run = build(upstream, command)
    assert run.returncode == 0, run.stderr
    assert "HAVE_SV2 1" not in (upstream / "config.h").read_text()
    program = tmp_path / "out/opt/ckpool/bin/ckpool"
    assert subprocess.run([program], check=False, timeout=LIMIT).returncode == 0

    # Without the flag it would come in, and the guard ends the build.
    unflagged = command.replace(" --disable-sv2", "")
    assert unflagged != command
    shutil.rmtree(tmp_path / "out")
    run = build(upstream, unflagged)
    assert run.returncode != 0
    assert "#define HAVE_SV2 1" in (upstream / "config.h").read_text()
    assert not program.exists()


@pytest.mark.timeout(600)
def test_the_image_tests_its_configurations(upstream: Path, tmp_path: Path) -> None:
    assert build(upstream, instruction("./configure")).returncode == 0
    home = tmp_path / "out/opt/ckpool"
    shutil.copytree(CKPOOL / "config", home / "config")
    (home / "run").mkdir()
    entrypoint = (CKPOOL / "image" / "entrypoint").read_text()
    (home / "bin/entrypoint").write_text(entrypoint.replace("/opt/ckpool/", f"{home}/"))
    (home / "bin/entrypoint").chmod(0o755)

    def look() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", instruction("-T")],
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    run = look()
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("Configuration check of") == len(CONFIGS) == 3
    assert not (home / "run/ckpool.conf").exists()
    # One that names what nobody sets is refused.
    config = json.loads((home / "config/ckpool-signet.conf").read_text())
    config["btcsig"] = "@NOBODY_SETS_IT@"
    (home / "config/ckpool-signet.conf").write_text(json.dumps(config))
    run = look()
    assert run.returncode != 0
    assert "NOBODY_SETS_IT" in run.stderr
