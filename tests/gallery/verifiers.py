"""Verifiers that share no code with each other, and judge a chain as a TLS client would.

Each takes what a client has (a chain as it was sent, the CA that it trusts, the host that it wanted) and
returns what it objects to; empty: it accepts.
"""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from suite.gallery.mint import Minted


@dataclass(frozen=True)
class Case:
    """What a client has to judge.

    :ivar directory: for files.
    :ivar host: None: any.
    :ivar now: what time it is for those that can be told.
    """

    minted: Minted
    ca: bytes
    directory: Path
    host: str | None = "localhost"
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def pems(self) -> list[str]:
        """The chain, as it was sent."""
        return [ssl.DER_cert_to_PEM_cert(der) for der in self.minted.chain]


def write(path: Path, contents: bytes | str) -> str:
    """Write *contents*, and return *path*, for a command line."""
    path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    return str(path)


def run(*command: str, stdin: str = "") -> tuple[int, str]:
    """Run a program to its end: its exit code, and all that it printed."""
    done = subprocess.run(
        command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True
    )
    return done.returncode, done.stdout


def openssl(case: Case, *options: str) -> str:
    """`openssl verify`, as strict as browsers are about keys; *options* add to, or override, its own."""
    leaf, *rest = case.pems
    chain = ["-untrusted", write(case.directory / "rest.pem", "".join(rest))] if rest else []
    host = ["-verify_hostname", case.host] if case.host else []
    code, output = run(
        *("openssl", "verify", "-purpose", "sslserver", "-auth_level", "2", *host),
        *("-attime", f"{case.now.timestamp():.0f}"),
        *("-CAfile", write(case.directory / "ca.pem", case.ca), "-no-CApath", *chain, *options),
        write(case.directory / "leaf.pem", leaf),
    )
    if code == 0:
        return ""
    found = re.search(r"error \d+ at .*?lookup: (.*)", output)
    return found[1] if found else output.strip()


def gnutls(case: Case) -> str:
    """GnuTLS's `certtool --verify`, as strict as that; it knows no time but the machine's."""
    host = ["--verify-hostname", case.host] if case.host else []
    code, output = run(
        *("certtool", "--verify", "--verify-profile", "medium", *host),
        *("--verify-purpose", "1.3.6.1.5.5.7.3.1"),
        *("--load-ca-certificate", write(case.directory / "ca.pem", case.ca)),
        stdin="".join(case.pems),
    )
    if code == 0:
        return ""
    found = re.findall(r"Not verified\.(.*)", output)
    return found[-1].strip() if found else output.strip().splitlines()[-1]


def cryptography(case: Case) -> str:
    """The verifier of cryptography (in Rust, after the Baseline Requirements)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)  # a negative serial number
            leaf, *rest = map(x509.load_der_x509_certificate, case.minted.chain)
            store = Store(x509.load_pem_x509_certificates(case.ca))
            builder = PolicyBuilder().store(store).time(case.now)
            builder.build_server_verifier(x509.DNSName(case.host or "localhost")).verify(leaf, rest)
    except (VerificationError, ValueError) as error:
        return str(error) or type(error).__name__
    return ""


def python(case: Case) -> str:
    """A handshake of Python's `ssl` with itself, in memory; it knows no time but the machine's."""
    chain = write(case.directory / "chain.pem", "".join(case.pems))
    key = write(case.directory / "key.pem", case.minted.key)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.set_ciphers("ALL:@SECLEVEL=0")
    try:
        serving.load_cert_chain(chain, key)
    except ssl.SSLError as error:  # before the client could object
        return f"cannot be served: {error.reason}"
    asking = ssl.create_default_context(cadata=case.ca.decode())
    asking.set_ciphers("DEFAULT:@SECLEVEL=2")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    client = asking.wrap_bio(to_client, to_server, server_hostname=case.host)
    waiting: list[ssl.SSLObject] = [client, server]
    try:
        while waiting:
            side = waiting.pop(0)
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                waiting.append(side)
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except ssl.SSLError as error:
        return error.reason or str(error)
    return ""


#: All of them, where their programs are installed.
VERIFIERS: Final[Mapping[str, Callable[[Case], str]]] = {
    name: verifier
    for name, verifier in {
        "openssl": openssl,
        "gnutls": gnutls,
        "cryptography": cryptography,
        "python": python,
    }.items()
    if shutil.which({"gnutls": "certtool", "openssl": "openssl"}.get(name, "sh"))
}
