"""Runs the tests as if at another moment: every clock of every process goes on from there.

``python -m tests.moment 2026-12-27T23:59:50Z tests/ingest`` begins ten seconds before a
Monday; ``TZ=Asia/Kolkata`` before it changes the zone. What stands after the moment goes to
pytest. Needs gcc and Linux: the clock is that of moment.c, put before the C library's.
"""

import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

SOURCE = Path(__file__).with_name("moment.c")


def main() -> int:
    """Compiles the clock, and runs pytest with it; its exit code."""
    if len(sys.argv) < 2:
        sys.exit(str(__doc__))
    moment = datetime.fromisoformat(sys.argv[1])
    if moment.tzinfo is None:
        sys.exit(f"{sys.argv[1]} has no zone: end it with Z, or +05:30")
    with tempfile.TemporaryDirectory(prefix="tbg-moment-") as folder:
        Path(folder).chmod(0o755)  # as root, PostgreSQL runs as another user
        library = Path(folder, "moment.so")
        command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
        command += ["-o", str(library), str(SOURCE)]
        subprocess.run(command, check=True, timeout=60)
        by = round((moment - datetime.now(UTC)).total_seconds())
        environment = {"LD_PRELOAD": str(library), "TBG_TEST_MOMENT": str(by)}
        tests = [sys.executable, "-m", "pytest", *sys.argv[2:]]
        return subprocess.run(tests, env={**os.environ, **environment}).returncode


if __name__ == "__main__":
    sys.exit(main())
