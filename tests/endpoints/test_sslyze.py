"""sslyze, a TLS scanner, compares a running suite with Mozilla's "intermediate" configuration.

It has requirements of its own, and so a virtual environment of its own: ``make .venv/sslyze/installed``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import trustme

from tests.endpoints.test_tls import ffdhe2048
from tests.running import cannot_run, running

SERVED = """
[endpoints]
tls = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
rsa = "ssl:0:privateKey=rsa.key:certKey=rsa.pem:dhParameters=dh.pem"
"""

#: What it must find fault with, and why that is as it should be, by endpoint. It must find nothing else.
EXCEPTED = {
    "tls": {
        "certificate_path_validation": "our development CA is a private one, that is in nobody's trust store",
        "maximum_certificate_lifespan": "it is made for 825 days, as a private CA's may be",
    },
    "rsa": {
        "certificate_path_validation": "this CA is the test's own",
        "maximum_certificate_lifespan": "it signs for a long time, since nobody ever renews what it signs",
    },
}


def test_sslyze_finds_nothing_but_what_comes_with_a_private_ca(tmp_path: Path) -> None:
    """A certificate of either kind, with all that can be chosen from: TLS 1.2 and 1.3, DHE suites as well."""
    python = Path(sys.prefix) / "sslyze" / "bin" / "python"
    if not python.exists():
        cannot_run("sslyze is not installed; `make .venv/sslyze/installed` does that")
    rsa = trustme.CA().issue_cert("localhost", key_type=trustme.KeyType.RSA)
    rsa.cert_chain_pems[0].write_to_path(tmp_path / "rsa.pem")
    (tmp_path / "rsa.key").touch(0o600)
    rsa.private_key_pem.write_to_path(tmp_path / "rsa.key")
    (tmp_path / "dh.pem").write_bytes(ffdhe2048())
    with running(tmp_path, SERVED) as suite:
        targets = {name: "{}:{}".format(*suite.addresses[name]) for name in EXCEPTED}
        scan = subprocess.run(
            [python, "-m", "sslyze", "--mozilla_config", "intermediate", *targets.values()],
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
    compared = scan.stdout.partition('Mozilla\'s "intermediate" configuration')[2]
    for name, target in targets.items():
        assert f"{target}: FAILED - Not compliant." in compared, scan.stdout + scan.stderr
        verdict = compared.partition(f"{target}: ")[2].partition("\n\n")[0]
        faults = dict(re.findall(r"^ +\* (\w+): (.*)$", verdict, re.MULTILINE))
        assert faults.keys() == EXCEPTED[name].keys(), verdict
