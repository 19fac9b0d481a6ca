"""Which room may import which, and no module imports one that imports it."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A room imports itself, and what stands here. There are no exceptions.
MAY_IMPORT: dict[str, set[str]] = {
    "tbg_core": set(),
    "ingest": {"tbg_core"},
    "devnet": {"tbg_core"},
    "tbg_dagster": {"tbg_core"},
    "tbg_notify": {"tbg_core"},
    "tbg_serve": {"tbg_core"},
    "tbg": {"tbg_core", "ingest", "devnet", "tbg_dagster", "tbg_notify", "tbg_serve"},
    # Measures a checkout, with what its tests measure with.
    "bench": {
        "tbg_core",
        "ingest",
        "devnet",
        "tbg_dagster",
        "tbg_notify",
        "tbg_serve",
        "tbg",
        "tests",
    },
}


def modules_of(room: str) -> dict[str, Path]:
    """The modules of a room by name; a package's ``__init__`` goes by the package's."""
    found = {}
    for path in (ROOT / room).rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imported(path: Path) -> set[str]:
    """Every name that a file may import, type checking included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            names.add(node.module)
            names.update(f"{node.module}.{item.name}" for item in node.names)
        elif isinstance(node, ast.Import):
            names.update(item.name for item in node.names)
    return names


def test_every_room_stands_in_the_table() -> None:
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert rooms == set(MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_the_table_allows(room: str) -> None:
    others = (set(MAY_IMPORT) | {"tests"}) - {room} - MAY_IMPORT[room]
    found = {
        f"{name} imports {other}"
        for name, path in modules_of(room).items()
        for other in imported(path)
        if other.split(".")[0] in others
    }
    assert not found


def test_the_table_has_no_circle() -> None:
    TopologicalSorter(MAY_IMPORT).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_no_module_imports_one_that_imports_it(room: str) -> None:
    files = {name: path for name, path in modules_of(room).items() if path.name != "__init__.py"}
    graph = {name: imported(path) & set(files) for name, path in files.items()}
    assert room == "tbg_core" or any(graph.values())
    TopologicalSorter(graph).prepare()
