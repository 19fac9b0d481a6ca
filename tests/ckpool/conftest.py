"""The C side's test programs, compiled once."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.processes import LIMIT

CKPOOL = Path(__file__).parent.parent.parent / "ckpool"


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``program("golden")`` compiles ckpool/tests/golden.c with the module."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("the C side needs a compiler: apt-get install gcc libc6-dev")
    folder = tmp_path_factory.mktemp("ckpool")

    def compiled(name: str) -> Path:
        made = folder / name
        if not made.exists():
            compile_c(compiler, CKPOOL / "tests" / f"{name}.c", CKPOOL / "src", made)
        return made

    return compiled


@pytest.fixture(scope="session")
def solve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ckpool/tests/tree/solve.c, with the tree as the weave leaves it."""
    compiler = shutil.which("gcc")
    if compiler is None or shutil.which("spatch") is None:
        pytest.skip("weaving needs gcc and spatch: apt-get install gcc libc6-dev coccinelle")
    folder = tmp_path_factory.mktemp("woven")
    weave(folder)
    compile_c(compiler, CKPOOL / "tests" / "tree" / "solve.c", folder / "src", folder / "solve")
    return folder / "solve"


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole pool: the tree as the weave leaves it, and standin.c for its main program."""
    compiler = shutil.which("gcc")
    if compiler is None or shutil.which("spatch") is None:
        pytest.skip("weaving needs gcc and spatch: apt-get install gcc libc6-dev coccinelle")
    folder = tmp_path_factory.mktemp("pool")
    weave(folder)
    sources = [Path(__file__).parent / "standin.c", *sorted((folder / "src").glob("*.c"))]
    options = ["-std=gnu11", "-O1", "-w", f"-I{folder / 'src'}", "-o", str(folder / "ckpool")]
    command = [compiler, *options, *map(str, sources), "-lm", "-pthread"]
    subprocess.run(command, check=True, timeout=LIMIT)
    return folder / "ckpool"


def weave(folder: Path) -> None:
    shapes = CKPOOL / "tests" / "tree" / "shapes.py"
    subprocess.run([sys.executable, shapes, "current", folder], check=True, timeout=LIMIT)
    subprocess.run([CKPOOL / "weave", folder], check=True, stdout=subprocess.DEVNULL, timeout=LIMIT)


def compile_c(compiler: str, program: Path, sources: Path, made: Path) -> None:
    """Compiles a program with the event module of that folder."""
    options = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]
    folders = [f"-I{sources}", f"-I{CKPOOL / 'tests'}"]
    # Of the woven tree, what talks to the node as well.
    module = [*sorted(sources.glob("tbg_*.c")), *sources.glob("bitcoin.c")]
    libraries = ["-o", str(made), "-lm", "-pthread"]
    command = [compiler, *options, *folders, str(program), *map(str, module), *libraries]
    subprocess.run(command, check=True, timeout=LIMIT)
