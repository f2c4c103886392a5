"""Real containers without a registry: podman and buildah, as root, on a base that mmdebstrap makes.

Images and the base are kept in a cache outside the tree (``CONTAINER_CACHE``, by default
``~/.cache/echo-suite/containers``), under names that say what they are made from.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.helpers import ROOT
from tests.running import PATIENCE, cannot_run, wait_until

BASE = "localhost/echo-suite-base:12-slim"
IMAGE = "localhost/echo-suite"
LOCUST = "localhost/echo-suite-locust"

#: What Debian calls the programs that are needed, and their packages.
PROGRAMS = {
    "podman": "podman",
    "buildah": "buildah",
    "runc": "runc",
    "mmdebstrap": "mmdebstrap",
    "catatonit": "catatonit",
    "iptables": "iptables",
    "/usr/lib/podman/netavark": "netavark",
    "/usr/lib/podman/aardvark-dns": "aardvark-dns",
}

#: See `turn`.
LOCK = Path("/run/lock/echo-suite-containers")

#: How buildah builds: with what is here, in a chroot, and leaving nothing else behind.
BUILD = ("--pull-never", "--isolation", "chroot", "--layers", "--force-rm")

#: Seconds for what downloads or builds.
BUILDING = 900

#: cgroups may be hybrid, which crun refuses, and the hard limit of descriptors low. Logs are files,
#: which are read here.
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
[network]
network_backend = "netavark"
network_config_dir = "{cache}/networks"
default_subnet = "10.89.77.0/24"
"""

STORAGE_CONF = """
[storage]
driver = "{driver}"
runroot = "{cache}/{driver}/run"
graphroot = "{cache}/{driver}/graph"
"""

#: What podman says where no systemd runs, which would start health checks; the tests start them.
NOISE = ("systemd connection", "failed to connect to syslog")


@contextmanager
def turn() -> Iterator[None]:
    """The time in which this run alone has containers; the test is skipped if it can have none.

    Bridges and their addresses are the machine's: a run of another checkout is waited for.
    """
    if os.geteuid() != 0:
        cannot_run("containers are built and run as root here")
    for name, package in PROGRAMS.items():
        if shutil.which(name) is None:
            cannot_run(f"{name} is not installed (Debian: apt-get install {package})")
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Podman:
    """Podman, with a storage of its own."""

    def __init__(self) -> None:
        default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "echo-suite/containers"
        self.cache = Path(os.environ.get("CONTAINER_CACHE") or default)
        self.cache.mkdir(parents=True, exist_ok=True)
        self._use("overlay")
        if self.run("info", check=False).returncode:
            self._use("vfs")
        # What a run that was killed has left, in a storage that nobody else uses.
        self.run("pod", "rm", "-fa", check=False)
        self.run("rm", "-fa", "-t", "0", check=False)
        self.run("network", "prune", "-f", check=False)

    def _use(self, driver: str) -> None:
        settings = {"containers.conf": CONTAINERS_CONF, "storage.conf": STORAGE_CONF}
        for name, text in settings.items():
            (self.cache / name).write_text(text.format(cache=self.cache, driver=driver))

    @cached_property
    def environment(self) -> dict[str, str]:
        """What podman and what calls it need."""
        return {
            **os.environ,
            "CONTAINERS_CONF": str(self.cache / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.cache / "storage.conf"),
        }

    def run(
        self,
        *arguments: str | Path,
        program: str | Path = "podman",
        check: bool = True,
        timeout: float = PATIENCE,
        text: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run podman, or another *program* that works with its storage."""
        done = subprocess.run(
            [program, *arguments],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            input="" if text is None else text,
        )
        said = [line for line in done.stderr.splitlines() if not any(noise in line for noise in NOISE)]
        done.stderr = "\n".join(said)
        assert not check or done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done

    def __call__(self, *arguments: str | Path, timeout: float = PATIENCE) -> str:
        """What podman prints."""
        return self.run(*arguments, timeout=timeout).stdout.strip()

    def inspect(self, name: str) -> dict[str, Any]:
        """What is known of a container or an image."""
        (found,) = json.loads(self("inspect", name))
        return dict(found)

    def has(self, image: str) -> bool:
        """Whether there is such an *image*."""
        return self.run("image", "exists", image, check=False).returncode == 0

    # Images.

    def base(self) -> str:
        """A Debian with Python, in place of what a build pulls where there is a registry."""
        if not self.has(BASE):
            archive = self.cache / "base.tar"
            # Without what Debian's slim images are without, too.
            left_out = ("doc", "info", "locale", "man")
            slim = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in left_out]
            slim.append("--dpkgopt=path-include=/usr/share/doc/*/copyright")
            packages = "--include=python3,python3-venv,ca-certificates"
            command = ["--quiet", "--variant=minbase", packages, *slim, "bookworm", str(archive), mirror()]
            self.run(*command, program="mmdebstrap", timeout=BUILDING)
            self("import", "--quiet", archive, BASE, timeout=BUILDING)
            archive.unlink()
        return BASE

    def build(self, target: str = "", output: Path | None = None) -> str:
        """The name of the image of this checkout, which is built unless it has been.

        :param target: the stage to build instead, to the directory *output*.
        """
        name = f"{IMAGE}:{digest('deploy/container')}"
        if target:
            to_directory = ("--target", target, "--output", f"type=local,dest={output}")
            self._bud("deploy/container/Containerfile", f"{IMAGE}:sbom", *to_directory)
        elif not self.has(name):
            self._bud("deploy/container/Containerfile", name, "--build-arg", "VERSION=test")
        return name

    def locust(self) -> str:
        """The name of the image of deploy/locust, which is built unless it has been."""
        name = f"{LOCUST}:{digest('deploy/locust')}"
        if not self.has(name):
            self._bud("deploy/locust/Containerfile", name)
        return name

    def _bud(self, file: str, name: str, *arguments: str) -> None:
        options = [*BUILD, "--format", "docker", *outside()]
        options += ["--build-arg", f"BASE={self.base()}", "-f", str(ROOT / file), "-t", name, *arguments]
        self.run("bud", *options, ROOT, program="buildah", timeout=BUILDING)

    def peers(self) -> str:
        """An image with HAProxy and Prometheus, in place of theirs."""
        name = "localhost/echo-suite-peers:12-slim"
        if not self.has(name):
            install = "apt-get -qq install -y --no-install-recommends haproxy prometheus >/dev/null"
            text = f"FROM {self.base()}\nRUN apt-get -qq update && {install} && rm -rf /var/lib/apt/lists/*\n"
            file = self.cache / "Containerfile.peers"
            file.write_text(text)
            options = [*BUILD, "-v", "/etc/apt:/etc/apt:ro", *outside()]
            self.run(
                "bud",
                *options,
                "-f",
                file,
                "-t",
                name,
                self.cache / "networks",
                program="buildah",
                timeout=BUILDING,
            )
        return name

    # Containers.

    def stopping(self, name: str) -> subprocess.Popen[bytes]:
        """``podman stop`` under way: it waits for the end."""
        return subprocess.Popen(
            ["podman", "stop", "-t", "30", name],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def lines(self, name: str) -> list[str]:
        """What the container has printed."""
        return self.run("logs", name).stdout.splitlines()

    def wait_for_line(self, name: str, start: str) -> str:
        """The line of a container that begins with *start*."""
        # From the file that podman reads: asking podman takes more of the processor than many a container.
        known = self.inspect(name)
        log = Path(known["HostConfig"]["LogConfig"]["Path"])
        process = Path(f"/proc/{known['State']['Pid']}")

        def found() -> list[str]:
            running = process.exists()
            lines = re.findall(rf"^\S+ stdout F ({re.escape(start)}.*)$", log.read_text(), re.MULTILINE)
            assert lines or running, self.run("logs", name)
            return lines

        wait_until(lambda: bool(found()), f"{name} has said {start!r}")
        return found()[0]


def mirror() -> str:
    """Debian's mirror, which is the one that apt uses."""
    command = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", "Origin: Debian"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    sites = done.stdout.split()
    return sites[0] if sites else cannot_run("apt has no source of Debian's packages here")


def digest(directory: str) -> str:
    """A name for what an image of this checkout is made from: the suite, and what *directory* has for it."""
    found = sha256()
    places = [
        "suite",
        "requirements",
        directory,
        "pyproject.toml",
        "pytest_echo_suite.py",
        "README.md",
    ]
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *places, ".containerignore"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in sorted(listed.stdout.split(b"\0")):
        path = ROOT / os.fsdecode(name)
        if name and path.is_file():
            found.update(name + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


def outside() -> Sequence[str]:
    """Options by which pip and apt in a build are configured as they are outside, and nothing of it stays.

    Environment variables are not passed on: they would be in the image.
    """
    command = [sys.executable, "-m", "pip", "config", "list"]
    settings = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # Constraints, directories with packages, and indexes, whose files are beside them.
    named = re.findall(r"(?:file://|'|\s)(/[^\s']+)", settings)
    named = [path.rstrip("/").removesuffix("/simple") for path in named]
    usual = ("/etc/pip.conf", "/etc/xdg/pip", str(Path.home() / ".config/pip"), "/etc/ssl/certs")

    def options() -> Iterator[str]:
        for place in dict.fromkeys((*usual, *(os.path.normpath(path) for path in named))):
            if os.path.exists(place):
                yield from ("-v", f"{place}:{place}:ro")

    return [*options()]
