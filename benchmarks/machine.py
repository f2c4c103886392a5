"""What the numbers of a race depend on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import no_go, no_uvloop


def machine() -> Iterator[tuple[str, str]]:
    """What the numbers depend on."""
    model = re.search(r"(?m)^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text())
    yield "processor", f"{len(os.sched_getaffinity(0))} x {model[1] if model else platform.machine()}"
    yield "kernel", platform.release()
    yield "Python", f"{platform.python_version()} with {ssl.OPENSSL_VERSION}"
    yield "Twisted", f"{importlib.metadata.version('twisted')} with {pyopenssl_version()}"
    if not no_uvloop():
        yield "uvloop", importlib.metadata.version("uvloop")
    if not no_go():
        yield "Go", first_line("go", "version")
    yield "C", first_line("cc", "--version")
    if shutil.which("openssl"):
        yield "OpenSSL of C", first_line("openssl", "version")


def pyopenssl_version() -> str:
    """The OpenSSL that pyOpenSSL brings along."""
    from OpenSSL import SSL  # noqa: PLC0415  # slow, and of use only here

    return SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode()


def first_line(*command: str) -> str:
    """The first line that *command* prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
