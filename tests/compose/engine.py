"""Docker as this machine has it: which client, which compose, a daemon, base images.

Where no registry answers, base images are made with debootstrap and carry the names of
the real ones for as long as the proof runs; see standins/.
"""

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.processes import ROOT, running

STANDINS: Final = Path(__file__).parent / "standins"
STANDIN: Final = "tbg-standin"  # prefix of their own names, under which they are kept
# Which stand-in serves for which image.
STAND_IN_FOR: Final = {
    "debian": "debian",
    "haproxy": "haproxy",
    "python": "python",
    "redis": "redis",
    "timescale/timescaledb": "timescaledb",
}
PACKAGES: Final = "docker.io docker-compose debootstrap"
REGISTRY_SECONDS: Final = 90.0
CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
PIP_CONF: Final = Path("/etc/pip.conf")

Say = Callable[[str], None]


class ProofError(Exception):
    """What is missing, or what was not as it must be."""


def run(
    command: Sequence[str],
    *,
    timeout: float = 600,
    check: bool = True,
    stdin: str | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a command; its output is the error's text where it fails."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        input=stdin,
        timeout=timeout,
        env={**os.environ, **(env or {})},
        cwd=ROOT,
    )
    if check and done.returncode != 0:
        text = (done.stdout + done.stderr).strip()
        raise ProofError(f"{' '.join(command[:12])}: exit {done.returncode}\n{text[-4000:]}")
    return done


@dataclass(frozen=True)
class Built:
    """A build of an image: how long it took, and what it printed."""

    seconds: float
    output: str


@dataclass
class Engine:
    """One Docker daemon and the programs that speak to it."""

    docker: str
    compose: list[str]
    say: Say
    tagged: list[str] = field(default_factory=list)
    stand_ins: bool = False

    @classmethod
    def find(cls, say: Say) -> "Engine":
        """Finds clients that can do what is needed.

        Raises:
            ProofError: naming the packages that are missing.
        """
        docker = next((path for path in _all_on_path("docker") if _can_build(path)), None)
        compose: list[str] | None = None
        if docker and run([docker, "compose", "version"], check=False).returncode == 0:
            compose = [docker, "compose"]
        elif shutil.which("docker-compose"):
            compose = ["docker-compose"]
        if docker is None or compose is None:
            raise ProofError(
                "this needs Docker with BuildKit and docker compose; on Debian, as root:\n"
                f"  apt-get update && apt-get install -y {PACKAGES}"
            )
        return cls(docker, compose, say)

    @contextlib.contextmanager
    def daemon(self, log: Path) -> Iterator[None]:
        """Uses the daemon that runs, or runs one meanwhile where this user may."""
        if self._answers():
            self.say("docker: the daemon runs already")
            yield
            return
        dockerd = shutil.which("dockerd")
        if dockerd is None or os.geteuid() != 0:
            raise ProofError("the Docker daemon does not run, and only root may start it here")
        with running([dockerd], log) as process:
            deadline = time.monotonic() + 60
            while not self._answers():
                if process.returncode is not None or time.monotonic() > deadline:
                    raise ProofError(f"dockerd did not start:\n{process.output[-3000:]}")
                time.sleep(0.5)
            self.say(f"docker: dockerd started by hand, log in {log}")
            try:
                yield
            finally:
                process.end()  # it ends its containers

    def _answers(self) -> bool:
        return run([self.docker, "info"], check=False).returncode == 0

    def provide(self, images: Sequence[str]) -> None:
        """Makes sure that every image is there: as it is, pulled, or a stand-in."""
        missing = [image for image in images if not self._has(image)]
        if not missing:
            self.say(f"images: {len(images)} base images are there already")
            return
        for image in missing:
            try:
                answered = run(
                    [self.docker, "pull", "-q", image], timeout=REGISTRY_SECONDS, check=False
                )
            except subprocess.TimeoutExpired:
                break
            if answered.returncode != 0:
                break
        else:
            self.say(f"images: pulled {', '.join(missing)}")
            return
        missing = [image for image in images if not self._has(image)]
        self.say("images: no registry answers; base images are made with debootstrap")
        self.stand_ins = True
        for image in missing:
            name = STAND_IN_FOR.get(image.rpartition(":")[0])
            if name is None:
                raise ProofError(f"there is no stand-in for {image}")
            self._stand_in(name)
            run([self.docker, "tag", f"{STANDIN}/{name}:bookworm", image])
            self.tagged.append(image)
            self.say(f"images: {image} is {STANDIN}/{name}:bookworm ({self._contents(name)})")

    def untag(self) -> None:
        """Takes the real images' names from the stand-ins, so that nobody mistakes them."""
        for image in self.tagged:
            run([self.docker, "rmi", image], check=False)
        self.tagged.clear()

    def build(
        self, image: str, dockerfile: str, context: str = ".", arguments: Sequence[str] = ()
    ) -> Built:
        """Builds an image; paths are relative to the repository's root.

        Args:
            arguments: of the Dockerfile, each ``NAME=value``.
        """
        command = [self.docker, "build", "--progress", "plain", "-t", image, "-f", dockerfile]
        command += [part for argument in arguments for part in ("--build-arg", argument)]
        if self.stand_ins:
            command += ["--network", "host"]
        command += [*_host_configuration(), context]
        started = time.monotonic()
        done = run(command, timeout=1800, env={"DOCKER_BUILDKIT": "1"})
        return Built(time.monotonic() - started, done.stdout + done.stderr)

    def megabytes(self, image: str) -> float:
        size = run([self.docker, "image", "inspect", "-f", "{{.Size}}", image]).stdout
        return int(size) / 1e6

    def _has(self, image: str) -> bool:
        return run([self.docker, "image", "inspect", image], check=False).returncode == 0

    def _stand_in(self, name: str) -> None:
        image = f"{STANDIN}/{name}:bookworm"
        if self._has(image):
            return
        self._debian()
        if name == "debian":
            return
        command = [self.docker, "build", "--network", "host", "-t", image]
        command += ["-f", str(STANDINS / f"{name}.Dockerfile"), str(STANDINS)]
        run(command, timeout=1800, env={"DOCKER_BUILDKIT": "1"})

    def _debian(self) -> None:
        image = f"{STANDIN}/debian:bookworm"
        if self._has(image):
            return
        debootstrap = shutil.which("debootstrap")
        if debootstrap is None or os.geteuid() != 0:
            raise ProofError(
                f"base images need root and debootstrap: apt-get install -y {PACKAGES}"
            )
        started = time.monotonic()
        with _folder() as folder:
            run([debootstrap, "--variant=minbase", "bookworm", str(folder)], timeout=1800)
            packed = folder.with_suffix(".tar")
            try:
                run(["tar", "-C", str(folder), "-cf", str(packed), "."], timeout=600)
                run([self.docker, "import", "-c", 'CMD ["bash"]', str(packed), image], timeout=600)
            finally:
                packed.unlink(missing_ok=True)
        self.say(f"images: debootstrap took {time.monotonic() - started:.0f} s")

    def _contents(self, name: str) -> str:
        command = {
            "debian": "cat /etc/debian_version",
            "haproxy": "haproxy -v | head -1",
            "python": "python3 --version",
            "redis": "redis-server --version | cut -d' ' -f1-3",
            "timescaledb": "postgres --version; echo without TimescaleDB",
        }[name]
        image = f"{STANDIN}/{name}:bookworm"
        shown = run([self.docker, "run", "--rm", "--entrypoint", "sh", image, "-c", command]).stdout
        return " ".join(shown.split())


def _can_build(docker: str) -> bool:
    """Whether this client can use BuildKit: it has buildx, or is older than that need."""
    if run([docker, "buildx", "version"], check=False).returncode == 0:
        return True
    version = re.search(r"version (\d+)", run([docker, "--version"], check=False).stdout)
    return version is not None and 19 <= int(version[1]) < 23


def _all_on_path(name: str) -> list[str]:
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = [os.path.join(folder, name) for folder in folders]
    return [path for path in found if os.access(path, os.X_OK)]


def _host_configuration() -> list[str]:
    """How this machine reaches package indexes, for the build alone: it stays in no layer."""
    options = []
    for name, path in (("ca", CERTIFICATES), ("pip_conf", PIP_CONF)):
        if path.is_file():
            options += ["--secret", f"id={name},src={path}"]
    return options


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder that may hold device nodes and root's files, removed afterwards."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="tbg-debian-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
