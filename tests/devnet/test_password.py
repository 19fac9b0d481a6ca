"""A password file that holds no password is named, and nothing starts."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from devnet.node.cli import node
from devnet.pool.cli import pool


@pytest.mark.parametrize("command", [node, pool])
@pytest.mark.parametrize(
    ("content", "named"), [(b"\xff\xfe", "cannot be read as text"), (b" \n", "password is empty")]
)
def test_a_file_without_a_password_is_refused_by_name(
    command: click.Command, content: bytes, named: str, tmp_path: Path
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    result = CliRunner().invoke(command, ["--rpcpassword-file", str(path)])
    assert result.exit_code == 2
    assert named in result.output
    assert str(path) in result.output.replace("\n", "")
