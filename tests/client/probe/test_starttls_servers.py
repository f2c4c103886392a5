"""STARTTLS with the servers that people run, where they are installed (Debian's packages)."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.client.probe.probing import ONCE, failure_of, probe_one
from tests.foreign import Authority, free_port, program
from tests.running import PATIENCE, client_program, optional_program

#: What runs a server in a directory, with certificate and key, on a port.
Start = Callable[[Path, int], AbstractContextManager[None]]


class Home:
    """A directory that servers' own users can read, with a certificate in ``server.pem`` and its key."""

    def __init__(self, directory: Path) -> None:
        self.path = directory
        self.authority = Authority(directory)
        issued = self.authority.ca.issue_cert("localhost", "127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(directory / "server.pem")
        issued.private_key_pem.write_to_path(directory / "server.key")
        for file in directory.iterdir():
            file.chmod(0o644)


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    if os.geteuid() != 0:
        pytest.skip("these servers change to users of their own, which takes root")
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    try:
        yield Home(directory)
    finally:
        shutil.rmtree(directory)


@contextmanager
def vsftpd(home: Path, port: int) -> Iterator[None]:
    (home / "empty").mkdir()
    (home / "vsftpd.conf").write_text(f"""
listen=YES
listen_address=127.0.0.1
listen_port={port}
background=NO
anonymous_enable=YES
ssl_enable=YES
rsa_cert_file={home}/server.pem
rsa_private_key_file={home}/server.key
secure_chroot_dir={home}/empty
""")
    with program("vsftpd", f"{home}/vsftpd.conf", port=port):
        yield


@contextmanager
def slapd(home: Path, port: int) -> Iterator[None]:
    (home / "slapd.conf").write_text(
        f"TLSCertificateFile {home}/server.pem\nTLSCertificateKeyFile {home}/server.key\n"
    )
    command = ("slapd", "-d", "0", "-h", f"ldap://127.0.0.1:{port}", "-f", f"{home}/slapd.conf")
    with program(*command, port=port):
        yield


def dovecot(protocol: str) -> Start:
    @contextmanager
    def start(home: Path, port: int) -> Iterator[None]:
        base = home / protocol
        base.mkdir()
        config = home / f"{protocol}.conf"  # in its own directory, it would be replaced by a link to itself
        config.write_text(f"""
protocols = {protocol}
base_dir = {base}
listen = 127.0.0.1
log_path = {base}/log
ssl = yes
ssl_cert = <{home}/server.pem
ssl_key = <{home}/server.key
service {protocol}-login {{
  inet_listener {protocol} {{
    port = {port}
  }}
  inet_listener {protocol}s {{
    port = 0
  }}
}}
passdb {{
  driver = static
  args = password=x
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={base}
}}
""")
        with program("dovecot", "-F", "-c", str(config), port=port):
            yield

    return start


@contextmanager
def prosody(home: Path, port: int) -> Iterator[None]:
    (home / "data").mkdir()
    (home / "prosody.cfg.lua").write_text(f"""
pidfile = "{home}/prosody.pid"
data_path = "{home}/data"
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
http_ports = {{}}
https_ports = {{}}
modules_enabled = {{ "tls", "saslauth" }}
modules_disabled = {{ "s2s" }}
c2s_require_encryption = true
log = {{ {{ levels = {{ min = "warn" }}, to = "console" }} }}
ssl = {{ key = "{home}/server.key", certificate = "{home}/server.pem" }}
run_as_root = true
VirtualHost "localhost"
""")
    with program("prosody", "--config", f"{home}/prosody.cfg.lua", "-F", port=port):
        yield


@contextmanager
def postgres(home: Path, port: int) -> Iterator[None]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("PostgreSQL is not installed")
    command = [client_program("setpriv"), "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
    data = home / "postgres"
    data.mkdir()
    shutil.chown(data, "postgres", "postgres")
    subprocess.run(
        [*command, str(found[-1].with_name("initdb")), "-D", str(data), "-N", "--auth", "trust"],
        cwd=home,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    shutil.copy(home / "server.key", data / "server.key")
    (data / "server.key").chmod(0o600)
    shutil.chown(data / "server.key", "postgres", "postgres")
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "ssl": "on",
        "ssl_cert_file": f"{home}/server.pem",
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    server = [str(found[-1]), "-D", str(data), "-p", str(port), *options]
    with program(*command[:1], *command[1:], *server, port=port, cwd=home):
        yield


@contextmanager
def mariadb(home: Path, port: int) -> Iterator[None]:
    """With an empty directory for its data it knows no users, but that is after TLS."""
    data = home / "mariadb"
    data.mkdir()
    command = ["mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", f"--socket={data}/socket"]
    command += [f"--port={port}", "--bind-address=127.0.0.1", "--skip-grant-tables", "--innodb=OFF"]
    command += [
        "--default-storage-engine=Aria",
        f"--ssl-cert={home}/server.pem",
        f"--ssl-key={home}/server.key",
    ]
    with program(*command, port=port):
        yield


@contextmanager
def postfix(home: Path, port: int) -> Iterator[None]:
    client_program("postfix")
    config = home / "postfix"
    for name in ("", "queue", "data"):
        (config / name).mkdir()
    shutil.chown(config / "data", "postfix")
    (config / "main.cf").write_text(f"""
compatibility_level = 3.6
queue_directory = {config}/queue
data_directory = {config}/data
mail_owner = postfix
setgid_group = postdrop
daemon_directory = /usr/lib/postfix/sbin
command_directory = /usr/sbin
myhostname = localhost
local_recipient_maps =
alias_maps =
smtpd_tls_security_level = may
smtpd_tls_cert_file = {home}/server.pem
smtpd_tls_key_file = {home}/server.key
maillog_file_prefixes = {home}
maillog_file = {home}/postfix.log
""")
    (config / "master.cf").write_text(f"""
127.0.0.1:{port} inet n - n - - smtpd
tlsmgr  unix       - - n 1000? 1 tlsmgr
anvil   unix       - - n - 1 anvil
proxymap unix      - - n - - proxymap
rewrite unix       - - n - - trivial-rewrite
postlog unix-dgram n - n - 1 postlogd
""")
    command = [client_program("postfix"), "-c", str(config)]
    subprocess.run([*command, "start"], capture_output=True, timeout=PATIENCE, check=True)
    try:
        yield
    finally:
        subprocess.run([*command, "stop"], capture_output=True, timeout=PATIENCE, check=True)


SERVERS: dict[str, tuple[str, Start]] = {
    "postfix": ("smtp", postfix),
    "dovecot imap": ("imap", dovecot("imap")),
    "dovecot pop3": ("pop3", dovecot("pop3")),
    "vsftpd": ("ftp", vsftpd),
    "slapd": ("ldap", slapd),
    "postgresql": ("postgres", postgres),
    "mariadb": ("mysql", mariadb),
    "prosody": ("xmpp", prosody),
}

#: The programs that are not called as the server is; PostgreSQL's is not on the path.
PROGRAMS = {"mariadb": "mariadbd", "postgresql": ""}


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_by_others(home: Home, tmp_path: Path, name: str) -> None:
    protocol, start = SERVERS[name]
    needed = PROGRAMS.get(name, name.partition(" ")[0])
    if needed:
        optional_program(needed)
    port = free_port()
    target = f"tls:localhost:{port}"
    options = ("--starttls", protocol, "-4", "--ca", str(home.authority.file))
    with start(home.path, port):
        report = probe_one(tmp_path, target, *ONCE, *options)
        failure = failure_of(tmp_path, target, *options, "--server-name", "www.example.org")
    assert report["ok"], report["failures"]
    assert report["tls"]["names"] == ["localhost", "127.0.0.1"]
    assert report["tls"]["trusted"]
    # XMPP's server is told the name that is expected, and may refuse to be another.
    assert failure["word"] in ("cert-name", "starttls")
