"""The modules of devnet form no import circle, type checking included."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import devnet

ROOT = Path(devnet.__file__).parent


def imported(path: Path, modules: set[str]) -> set[str]:
    """The modules among ``modules`` that a file imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{item.name}" for item in node.names)
        elif isinstance(node, ast.Import):
            names.update(item.name for item in node.names)
    return names & modules


def test_no_module_of_devnet_imports_one_that_imports_it() -> None:
    files = {
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path
        for path in ROOT.rglob("*.py")
        if path.name != "__init__.py"
    }
    graph = {name: imported(path, set(files)) for name, path in files.items()}
    assert graph["devnet.pool.session"] >= {"devnet.pool.pool", "devnet.pool.mining"}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
