"""What we depend on has bounds, and what was tested together lies within them."""

import tomllib
from importlib.metadata import PackageNotFoundError, metadata

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.processes import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
NEEDED = [
    Requirement(line)
    for lines in (PROJECT["dependencies"], *EXTRAS.values())
    for line in lines
    if not line.startswith(PROJECT["name"])
]
TESTED = {
    canonicalize_name(name): version
    for name, _, version in (
        line.partition("==") for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    )
    if version
}


@pytest.mark.parametrize("needed", NEEDED, ids=str)
def test_a_package_has_a_lower_bound_and_the_tested_version_lies_within(
    needed: Requirement,
) -> None:
    assert any(bound.operator == ">=" for bound in needed.specifier), needed
    assert needed.specifier.contains(TESTED[canonicalize_name(needed.name)], prereleases=True)


@pytest.mark.parametrize("name", TESTED)
def test_what_was_tested_installs_on_the_oldest_python_that_we_name(name: str) -> None:
    """Debian 12 has Python 3.11.2; a package may ask for a later one of 3.11."""
    try:
        wants = metadata(name).json.get("requires_python")
    except PackageNotFoundError:
        pytest.skip("for another system or Python")
    [oldest] = SpecifierSet(PROJECT["requires-python"])
    assert wants is None or f"{oldest.version}.0" in SpecifierSet(str(wants)), wants


@pytest.mark.parametrize(
    "name", ["dagster", "dagster-postgres", "dagster-webserver", "redis", "psycopg", "sqlalchemy"]
)
def test_what_our_code_knows_well_has_an_upper_bound_too(name: str) -> None:
    [found] = [one for one in NEEDED if canonicalize_name(one.name) == name]
    assert any(bound.operator == "<" for bound in found.specifier)


def test_the_extra_all_is_every_extra_that_runs_something() -> None:
    [line] = EXTRAS["all"]
    assert Requirement(line).name == PROJECT["name"]
    assert Requirement(line).extras == EXTRAS.keys() - {"all", "dev", "test"}
