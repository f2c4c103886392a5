"""schemathesis, which makes requests up from the OpenAPI document, finds nothing that is not as described.

It has requirements of its own, and so a virtual environment of its own, as sslyze has. Its configuration,
beside this file, says what it is not to expect.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.admin.api.asking_api import API, TOKEN
from tests.admin.asking_http import ask
from tests.running import PATIENCE, RunningSuite, cannot_run


def test_schemathesis_finds_nothing(suite: RunningSuite, api: API, tmp_path: Path) -> None:
    program = Path(sys.prefix) / "schemathesis" / "bin" / "schemathesis"
    if not program.exists():
        cannot_run("schemathesis is not installed; `make .venv/schemathesis/installed` does that")
    host, port = api.tcp
    options = ["-H", f"Authorization: Bearer {TOKEN}", "--max-examples", "5", "--seed", "1", "--no-color"]
    for path in ("/api/v1/events", "/api/v1/drain"):  # one has no end, and the other is the end
        options += ["--exclude-path", path]
    file, url = Path(__file__).with_name("schemathesis.toml"), f"http://{host}:{port}/api/v1/openapi.json"
    done = subprocess.run(
        [program, "--config-file", file, "run", url, "--warnings", "off", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stdout
    assert ask(api.unix, "/healthz").text == "ok\n"
    with suite.connect("unix") as sock:
        api("POST", "endpoints/unix/resume")
        api("DELETE", "faults")
        sock.sendall(b"hola")
        assert sock.recv(4) == b"hola"
