"""The C side's test programs, compiled once."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

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
            sources = [CKPOOL / "tests" / f"{name}.c", *sorted((CKPOOL / "src").glob("*.c"))]
            options = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]
            subprocess.run(
                [
                    compiler,
                    *options,
                    f"-I{CKPOOL / 'src'}",
                    f"-I{CKPOOL / 'tests'}",
                    *sources,
                    "-o",
                    made,
                    "-lm",
                    "-pthread",
                ],
                check=True,
            )
        return made

    return compiled
