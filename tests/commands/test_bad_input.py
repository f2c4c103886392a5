"""Bad configuration files: ``check`` answers each with one line that names the fault, and exit code 2.

The line names the file, the key, the bad value and what was expected in its place.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from suite import certs
from suite.cli import main
from suite.identities import load_certificates
from tests.helpers import write_config

TLS = "ssl:0:privateKey=pki/server.key:certKey=pki/server.pem"


@dataclass(frozen=True)
class Bad:
    """A bad file.

    :ivar text: what it says.
    :ivar key: where the fault is; None: in the file as a whole.
    :ivar fragments: what the line says as well: the bad value, what was expected.
    """

    id: str
    text: str | bytes
    key: str | None
    fragments: Sequence[str]


def listen(id_: str, description: str, *fragments: str) -> Bad:
    """A bad endpoint description."""
    return Bad(id_, f"[endpoints]\necho = '{description}'\n", "endpoints.echo.listen", fragments)


def tls(id_: str, table: str, key: str, *fragments: str) -> Bad:
    """A bad line in the ``[tls]`` table of a file with a good TLS endpoint."""
    return Bad(id_, f"[endpoints]\necho = '{TLS}'\n[tls]\n{table}\n", f"tls.{key}", fragments)


def two(id_: str, first: str, second: str, *fragments: str) -> Bad:
    """Two endpoints that cannot both be: the second is at fault, and the line names the first."""
    text = f"[endpoints]\nfirst = '{first}'\nsecond = '{second}'\n"
    return Bad(id_, text, "endpoints.second.listen", ("is taken by endpoints.first", "expected", *fragments))


def limit(id_: str, line: str, *fragments: str, kind: str = "tcp:0") -> Bad:
    """A bad line in the ``limits`` table of an endpoint."""
    key = line.partition(" ")[0]
    text = f"[endpoints.echo]\nlisten = '{kind}'\n[endpoints.echo.limits]\n{line}\n"
    return Bad(id_, text, f"endpoints.echo.limits.{key}", fragments)


GOOD = '[endpoints]\necho = "tcp:0"\n'

ANSWERS = [
    Bad(
        "no such answer",
        "[endpoints]\necho = { listen = 'tcp:0', answer = 'raport' }\n",
        "endpoints.echo.answer",
        ["'raport' is not an answer", "did you mean report?"],
    ),
    Bad(
        "an answer like no other",
        "[endpoints]\necho = { listen = 'udp:0', answer = 'xyz' }\n",
        "endpoints.echo.answer",
        [
            "'xyz' is not an answer",
            "expected chargen or daytime or discard or echo or qotd or report or time",
        ],
    ),
    Bad(
        "an answer that is no string",
        "[endpoints]\necho = { listen = 'tcp:0', answer = true }\n",
        "endpoints.echo.answer",
        ["True is a boolean", 'expected an answer, such as "report"'],
    ),
]

FILE = [
    Bad("not UTF-8", b"[endpoints]\n# caf\xe9\n", None, ["byte 17 is not UTF-8", "expected a TOML file"]),
    Bad("UTF-16", "[endpoints]".encode("utf-16"), None, ["byte 0 is not UTF-8; it is UTF-16", "in UTF-8"]),
    Bad(
        "typographic quotation marks",
        "[endpoints]\ntcp = \u201ctcp:0\u201d\n",
        None,
        ["not TOML", "line 2", "\u201c is a typographic quotation mark"],
    ),
    Bad("binary", bytes(range(32)), None, ["not TOML", "line 1"]),
    Bad("no value", "[endpoints]\ntcp =\n", None, ["not TOML", "line 2"]),
    Bad(
        "no quotes",
        "[endpoints]\n\ntcp = tcp:1234\n",
        None,
        ["not TOML", "line 3", 'expected a string in quotes, such as "tcp:1234"'],
    ),
    Bad("open string", '[endpoints]\ntcp = "tcp:1234\n', None, ["not TOML", "line 2"]),
    Bad(
        "one backslash too few", '[endpoints]\ntcp = "tcp6:1:interface=\\:\\:1"', None, ["not TOML", "line 2"]
    ),
    Bad("a name twice", GOOD + 'echo = "tcp:1"\n', None, ["not TOML", "line 3"]),
    Bad("nested too deeply", "echo = " + "[" * 5000, None, []),
    Bad("a number without end", "port = " + "1" * 5000, None, []),
]

SHAPE = [
    Bad("empty file", "", "endpoints", ["is empty", "expected one endpoint at least"]),
    Bad("no [endpoints]", '[tls]\nminimum = "1.3"', "endpoints", ["is empty", "expected one endpoint"]),
    Bad("empty [endpoints]", "[endpoints]", "endpoints", ["is empty", "expected one endpoint"]),
    Bad(
        "endpoints is a string",
        'endpoints = "tcp:1"',
        "endpoints",
        ["'tcp:1' is a string; expected a table"],
    ),
    Bad("endpoints is an array", "[[endpoints]]\n", "endpoints", ["[{}] is an array; expected a table"]),
    Bad("unknown table", GOOD + "[endpoint]", "endpoint", ["unknown key", "did you mean endpoints?"]),
    Bad(
        "unknown key",
        GOOD + "[xyz]",
        "xyz",
        [
            "unknown key",
            "expected admin or control or drain or endpoints or faults or gallery or group or lameduck"
            " or limits or profiles or seed",
        ],
    ),
    Bad(
        "a key without a name",
        '"" = 1\n' + GOOD,
        "''",
        [
            "unknown key",
            "expected admin or control or drain or endpoints or faults or gallery or group or lameduck"
            " or limits or profiles or seed",
        ],
    ),
    Bad(
        "an endpoint outside of [endpoints]",
        'tcp = "tcp:0"\n' + GOOD,
        "tcp",
        ["unknown key; endpoints go below a line `[endpoints]`"],
    ),
    Bad(
        "a table of an endpoint outside of [endpoints]",
        '[tcp]\nlisten = "tcp:0"\n' + GOOD,
        "tcp",
        ["unknown key; endpoints go below a line `[endpoints]`"],
    ),
    Bad(
        "a port at the top",
        "port = 1234\n" + GOOD,
        "port",
        ["unknown key; expected it in an endpoint", "tcp:1234:interface=127.0.0.1"],
    ),
    Bad(
        "admin is a description",
        'admin = "tcp:9901"\n' + GOOD,
        "admin",
        ["'tcp:9901' is a string; expected a table; did you mean admin.listen?"],
    ),
    Bad(
        "unknown key of an endpoint",
        '[endpoints.echo]\nlisten = "tcp:0"\nlistn = 1',
        "endpoints.echo.listn",
        ["unknown key", "did you mean listen?"],
    ),
    Bad(
        "unknown key of an endpoint's tls",
        f"[endpoints.echo]\nlisten = '{TLS}'\ntls.minimun = '1.2'",
        "endpoints.echo.tls.minimun",
        ["unknown key", "did you mean minimum?"],
    ),
    Bad(
        "no listen",
        "[endpoints.echo]\ntls = {}",
        "endpoints.echo.listen",
        ["missing", "expected an endpoint"],
    ),
    Bad(
        "endpoint is a number",
        "[endpoints]\necho = 1234",
        "endpoints.echo",
        ["1234 is an integer; expected"],
    ),
    Bad(
        "endpoint is a boolean",
        "[endpoints]\necho = true",
        "endpoints.echo",
        ["True is a boolean; expected"],
    ),
    Bad("endpoint is an array", "[endpoints]\necho = []", "endpoints.echo", ["[] is an array; expected"]),
    Bad("endpoint is a float", "[endpoints]\necho = 1.5", "endpoints.echo", ["1.5 is a float; expected"]),
    Bad(
        "endpoint is a date",
        "[endpoints]\necho = 2026-01-01",
        "endpoints.echo",
        ["is a date or time; expected"],
    ),
    Bad("endpoint is empty", "[endpoints]\necho = ''", "endpoints.echo", ["''", "expected an endpoint"]),
    Bad(
        "listen is a table",
        "[endpoints.echo.listen]\nport = 1",
        "endpoints.echo.listen",
        ["{'port': 1} is a table; expected an endpoint description"],
    ),
    Bad(
        "a name with a dot",
        '[endpoints]\n"a.b" = "tcp:0"',
        "endpoints",
        ["'a.b'", "expected 1 to 64 letters"],
    ),
    Bad("a name with a space", '[endpoints]\n"a b" = "tcp:0"', "endpoints", ["'a b'", "expected 1 to 64"]),
    Bad(
        "a name of two lines", '[endpoints]\n"a\\nb" = "tcp:0"', "endpoints", [r"'a\nb'", "expected 1 to 64"]
    ),
    Bad(
        "a name beyond ASCII", '[endpoints]\n"é" = "tcp:0"', "endpoints", ["'é'", "expected 1 to 64 letters"]
    ),
    Bad(
        "a name without letters", '[endpoints]\n"" = "tcp:0"', "endpoints", ["''", "expected 1 to 64 letters"]
    ),
    Bad("too long a name", f'[endpoints]\n{"x" * 65} = "tcp:0"', "endpoints", ["x" * 65, "expected 1 to 64"]),
]

DESCRIPTIONS = [
    listen("unknown type", "tpc:1234", "'tpc' is not an endpoint type", "did you mean tcp?"),
    listen(
        "type like nothing known", "quux:1", "'quux' is not an endpoint type", "expected fd or haproxy or ssl"
    ),
    listen("no type", ":1234", "':1234' has no type", "expected one first"),
    listen("only a named parameter", "port=1234", "'port=1234' has no type", "expected one first"),
    listen("trailing backslash", "tcp:1234\\", "'tcp:1234\\\\' ends in the middle", "expected a character"),
    listen("unknown parameter", "tcp:1:interfase=::1", "'interfase'", "did you mean interface?"),
    listen(
        "parameter of another type",
        "udp:1:mode=660",
        "'mode' is not a parameter of udp:",
        "expected interface",
    ),
    listen(
        "too many arguments", "tcp:1:127.0.0.1:5:6", "'6'", "too many", "expected tcp:port:interface:backlog"
    ),
    listen("colons not escaped", "udp:1:2001:db8::1", "'2001:db8::1'", r"interface=2001\\:db8\\:\\:1"),
    listen(
        "::1 for TCP",
        "tcp:1:interface=::1",
        "'::1' has colons",
        r"write them as \\: in",
        r"interface=\\:\\:1",
    ),
    listen("::1 for TCP over IPv6", "tcp6:1:interface=::1", "'::1' has colons", r"interface=\\:\\:1"),
    listen("::1 in brackets", "tcp6:1:interface=[::1]", "'::1' has colons", r"interface=\\:\\:1"),
    listen(":: and more", "tcp6:1:interface=::1:backlog=5", "'::1' has colons", r"\\:\\:1"),
    listen("eight groups", "tcp6:1:interface=1:2:3:4:5:6:7:8", "'1:2:3:4:5:6:7:8' has colons"),
    listen("colons elsewhere", "unix:a::1:b:c:d", "'c' is one parameter too many"),
    listen(
        "an address first",
        "tcp:0.0.0.0:2234",
        "port '0.0.0.0' is an address, and the port comes first",
        "did you mean tcp:2234:interface=0.0.0.0?",
    ),
    listen("only a port", "1234", "'1234' is not an endpoint type; did you mean tcp:1234?"),
    listen("an address and a port", "0.0.0.0:1234", "did you mean tcp:1234:interface=0.0.0.0?"),
    listen("a name and a port", "localhost:1234", "did you mean tcp:1234?"),
    listen("an address in brackets", "[::1]:1234", r"did you mean tcp6:1234:interface=\\:\\:1?"),
    listen("another name and a port", "example.org:1234", "'example.org' is not an endpoint type; expected"),
    listen("a URL", "tcp://0.0.0.0:1234", "is a URL; did you mean tcp:1234:interface=0.0.0.0?"),
    listen("a URL of a page", "https://localhost:4433/", "is a URL; did you mean ssl:4433?"),
    listen(
        "a URL of another host", "http://example.org:80", "is a URL; expected a description, such as tcp:"
    ),
    listen("a host first", "udp:localhost:2234", "did you mean udp:2234:interface=127.0.0.1?"),
    listen("a network card", "tcp:1:interface=eth0", "interface 'eth0' is not an address", "127.0.0.1"),
    listen("a name of elsewhere", "ssl:1:interface=www.example.org", "is not an address"),
    listen(
        "a port for a directory",
        "tls:4443",
        "'4443' is a port",
        "ssl:4443:privateKey=certs/server.key:certKey=certs/server.pem, or tls:DIRECTORY:4443",
    ),
    listen("no such directory of certificates", "tls:pki/absent:0", "pki/absent: no such directory"),
    listen("a file of certificates", "tls:pki/server.pem:0", "pki/server.pem: no such directory"),
    listen("by position and by name", "tcp:1:port=2", "'port' is given twice", "expected it once"),
    listen("by name twice", "tcp:1:interface=127.0.0.1:interface=0.0.0.0", "'interface'", "expected it once"),
    listen("no port", "tcp", "port is missing", "expected tcp:PORT"),
    listen("empty port", "tcp::127.0.0.1", "port is missing", "expected tcp:PORT"),
    listen("port in words", "tcp:http", "port 'http' is not a number", "expected 0 to 65535"),
    listen("port above the range", "udp:65536", "port '65536' is out of range", "expected 0 to 65535"),
    listen("negative port", "tcp:-1", "port '-1' is out of range", "expected 0 to 65535"),
    listen("port with a sign", "tcp:+80", "port '+80' is not a number", "expected 0 to 65535"),
    listen("port with a space", "tcp: 80", "port ' 80'", "expected 0 to 65535"),
    listen("port with an underscore", "tcp:1_0", "port '1_0'", "expected 0 to 65535"),
    listen("port in hexadecimal", "tcp:0x50", "port '0x50'", "expected 0 to 65535"),
    listen("port in Arabic digits", "tcp:٨٠", "port '٨٠'", "expected 0 to 65535"),
    listen("port in superscript", "tcp:8²", "port '8²'", "expected 0 to 65535"),
    listen("port of 5000 digits", "tcp:" + "9" * 5000, "port '999", "expected 0 to 65535"),
    listen("zeros before a port", "tcp:00000000000099999", "port '0", "expected 0 to 65535"),
    listen("5000 zeros before a port", "tcp:" + "0" * 5000 + "99999", "port '0", "expected 0 to 65535"),
    listen("no backlog at all", "tcp:1:backlog=0", "backlog '0'", "expected 1 to 2147483647"),
    listen("too large a backlog", "tcp:1:backlog=2147483648", "backlog '2147483648'", "expected 1 to"),
    listen("backlog in words", "ssl:1:backlog=many", "backlog 'many'", "expected 1 to"),
    listen("mode that is not octal", "unix:echo.sock:mode=888", "mode '888'", "expected three octal digits"),
    listen("mode in letters", "unix:echo.sock:mode=rw", "mode 'rw'", "expected three octal digits"),
    listen(
        "mode with a sticky bit", "unix:echo.sock:mode=1777", "mode '1777'", "expected three octal digits"
    ),
    listen("lockfile in words", "unix:echo.sock:lockfile=yes", "lockfile 'yes'", "expected 0 or 1"),
    listen("no path", "unix:", "address is missing", "expected unix:ADDRESS"),
    listen("path too long", f"unix:/{'x' * 200}", "too long", "201 bytes", "expected"),
    listen("path too long in bytes", f"unix:/{'é' * 60}", "too long", "121 bytes", "expected"),
    listen("half an address", "tcp:1:interface=127.0.0", "interface '127.0.0'", "expected one such as"),
    listen("an address beyond 255", "tcp:1:interface=127.0.0.256", "interface '127.0.0.256'", "expected one"),
    listen("a network", "tcp:1:interface=10.0.0.0/8", "interface '10.0.0.0/8'", "expected one such as"),
    listen("half an IPv6 address", "tcp6:1:interface=fe80\\:", "interface 'fe80:'", "expected one such as"),
    listen("a host name for UDP", "udp:1:interface=example.org", "interface 'example.org'", "expected"),
    listen("no such name", "tcp:1:interface=*", "interface '*'", "expected one such as"),
    listen(
        "haproxy before udp", "haproxy:udp:1", "haproxy:udp:1", "does not go with udp:", "expected a stream"
    ),
    listen("a parameter that is not ASCII", "tcp:1:ñ=2", "'ñ' is not a parameter", "expected ASCII"),
    listen("haproxy before udp6", "haproxy:udp6:1", "does not go with udp6:", "expected a stream"),
    listen("haproxy twice", "haproxy:haproxy:tcp:1", "does not go with haproxy:", "expected a stream"),
    listen("haproxy before nothing", "haproxy:", "'haproxy:' has no type", "expected one first"),
    listen("haproxy before what is unknown", "haproxy:tpc:1", "'tpc'", "did you mean tcp?"),
    listen("systemd alone", "systemd", "domain is missing", "expected systemd:DOMAIN"),
    listen("systemd without a socket", "systemd:domain=INET", "expected either index= or name="),
    listen(
        "systemd with two", "systemd:INET:index=0:name=echo", "expected either index= or name=", "not both"
    ),
    listen("systemd, unknown domain", "systemd:AF_INET:index=0", "'AF_INET'", "expected INET, INET6 or UNIX"),
    listen("systemd, index in words", "systemd:INET:first", "index 'first'", "expected 0 to"),
    listen("fd without a number", "fd", "fileno is missing", "expected fd:FILENO"),
    listen("fd in words", "fd:stdin", "fileno 'stdin'", "expected 0 to"),
    listen("fd beyond the range", "fd:2147483648", "fileno '2147483648'", "expected 0 to 2147483647"),
    listen("index beyond the range", "systemd:INET:2147483648", "index", "expected 0 to 2147483647"),
    listen("negative fd", "fd:-1", "fileno '-1'", "expected 0 to"),
    listen("sslmethod unknown", f"{TLS}:sslmethod=TLSv1_METHOD", "'TLSv1_METHOD'", "did you mean TLS"),
    listen("sslmethod long gone", f"{TLS}:sslmethod=SSLv3_METHOD", "'SSLv3_METHOD'", "tls.minimum"),
]

COLLISIONS = [
    two("one port twice", "tcp:1234", "tcp:1234", "127.0.0.1:1234"),
    two("one port, the default said once", "tcp:1234", "tcp:1234:interface=127.0.0.1", "127.0.0.1:1234"),
    two("one port, written in two ways", "tcp:1234", "tcp:01234", "127.0.0.1:1234"),
    two("every host and one", "tcp:1234:interface=0.0.0.0", "tcp:1234", "127.0.0.1:1234"),
    two("one host and every", "tcp:1234", "tcp:1234:interface=0.0.0.0", "0.0.0.0:1234"),
    two("one host and every, unnamed", "tcp:1234", "tcp:1234:interface=", "0.0.0.0:1234"),
    two("one IPv6 host and every", "tcp6:1234", "tcp6:1234:interface=\\:\\:", "[::]:1234"),
    two("an IPv6 host, written in two ways", "tcp6:1:interface=\\:\\:1", "tcp6:1:interface=0\\:0\\:\\:1"),
    two("tcp and ssl", "tcp:4433", TLS.replace(":0:", ":4433:"), "127.0.0.1:4433"),
    two("haproxy and ssl", "haproxy:tcp:4433", TLS.replace(":0:", ":4433:"), "127.0.0.1:4433"),
    two("udp and udp", "udp:1234:interface=0.0.0.0", "udp:1234", "127.0.0.1:1234"),
    two("one path twice", "unix:echo.sock", "unix:echo.sock:mode=600", "echo.sock"),
    two("one path, written in two ways", "unix:run/echo.sock", "unix:./run/x/../echo.sock", "run/echo.sock"),
]

CREDENTIALS = [
    listen(
        "no such key",
        "ssl:0:privateKey=pki/absent.key:certKey=pki/server.pem",
        "pki/absent.key: no such file",
        "python -m suite certs",
    ),
    listen("no such certificate", "ssl:0:privateKey=pki/server.key:certKey=pki/absent.pem", "pki/absent.pem"),
    listen(
        "no certificate named",
        "ssl:4434",
        "server.pem: no such file, and no privateKey is given",
        "expected ssl:4434:privateKey=certs/server.key:certKey=certs/server.pem",
    ),
    listen(
        "empty path", "ssl:0:privateKey=:certKey=pki/server.pem", "privateKey is empty", "expected a path"
    ),
    listen(
        "directory for a key", "ssl:0:privateKey=pki:certKey=pki/server.pem", "pki: cannot be read: Is a dir"
    ),
    listen(
        "key of another certificate",
        "ssl:0:privateKey=pki/client.key:certKey=pki/server.pem",
        "pki/client.key: is not the key of the certificate in pki/server.pem",
    ),
    listen(
        "certificate that is none",
        "ssl:0:privateKey=pki/server.key:certKey=pki/junk.pem",
        "pki/junk.pem: is not a certificate",
        "expected PEM",
    ),
    listen(
        "certificate in DER",
        "ssl:0:privateKey=pki/server.key:certKey=pki/server.der",
        "pki/server.der: is not a certificate",
        "expected PEM",
    ),
    listen(
        "key that is none",
        "ssl:0:privateKey=pki/junk.key:certKey=pki/server.pem",
        "pki/junk.key: is not a private key",
        "expected PEM",
    ),
    listen(
        "certificate for a key",
        "ssl:0:privateKey=pki/private.pem:certKey=pki/server.pem",
        "pki/private.pem: is a certificate; expected the private key",
    ),
    listen(
        "a key and a certificate in each other's place",
        "ssl:0:privateKey=pki/server.pem:certKey=pki/private.pem",
        "pki/server.pem: is a certificate; expected the private key",
    ),
    listen(
        "encrypted key",
        "ssl:0:privateKey=pki/encrypted.key:certKey=pki/server.pem",
        "pki/encrypted.key: private key is encrypted",
        "expected one without a password, or for an endpoint tls.password_file",
    ),
    listen(
        "key of a kind that does not sign",
        "ssl:0:privateKey=pki/x25519.key:certKey=pki/server.pem",
        "pki/x25519.key: is an X25519 key, which cannot sign a TLS handshake",
        "expected an RSA, EC or Edwards-curve key",
    ),
    listen(
        "key on an unknown curve",
        "ssl:0:privateKey=pki/curve.key:certKey=pki/server.pem",
        "pki/curve.key",
        "expected",
    ),
    listen(
        "certificate of a key on an unknown curve",
        "ssl:0:privateKey=pki/server.key:certKey=pki/curve.pem",
        "pki/curve.pem",
        "expected",
    ),
    listen(
        "key that everyone can read",
        "ssl:0:privateKey=pki/everyone.key:certKey=pki/server.pem",
        "pki/everyone.key: private key with mode 0644 can be read by everyone",
        "expected 0600 or 0640",
    ),
    listen(
        "key that everyone can write",
        "ssl:0:privateKey=pki/others.key:certKey=pki/server.pem",
        "pki/others.key: private key with mode 0602",
        "expected 0600",
    ),
    listen("no such chain", f"{TLS}:extraCertChain=pki/absent.pem", "pki/absent.pem: no such file"),
    listen(
        "chain that is none", f"{TLS}:extraCertChain=pki/junk.pem", "pki/junk.pem: is not a cert", "expected"
    ),
    listen("no such dhParameters", f"{TLS}:dhParameters=pki/absent.pem", "pki/absent.pem", "expected"),
    listen("dhParameters that are none", f"{TLS}:dhParameters=pki/junk.pem", "pki/junk.pem", "expected"),
    tls(
        "client_auth without a client_ca",
        'client_auth = "optional"',
        "client_auth",
        "clients are not asked for a certificate; expected client_ca, a PEM file of CAs, beside it",
    ),
    tls(
        "unknown client_auth",
        'client_ca = "pki/ca.pem"\nclient_auth = "maybe"',
        "client_auth",
        '\'maybe\' is unknown; expected "required" or "optional" or "unverified"',
    ),
    tls("client_auth that is no word", "client_auth = true", "client_auth", "True is a boolean; expected "),
    tls("keylog in no directory", 'keylog = "absent/keys"', "keylog", "cannot be appended to: No such file"),
    tls("no word for a password_file", "password_file = 1", "password_file", "a file with a password"),
    listen(
        "key on a curve that TLS does not use",
        "ssl:0:privateKey=pki/bitcoin.key:certKey=pki/server.pem",
        "pki/bitcoin.key: is a key on the curve secp256k1, which TLS does not use",
        "expected P-256, P-384, P-521, RSA or an Edwards curve",
    ),
    listen(
        "directory and key", "ssl:0:pki/server.key:directory=pki", "privateKey does not go with dir", "expec"
    ),
    listen(
        "empty directory", "tls:none:0", "none: has no certificate for a server", "expected PEM files with"
    ),
    tls("no such client_ca", 'client_ca = "pki/absent.pem"', "client_ca", "pki/absent.pem: no such file"),
    tls("client_ca that is none", 'client_ca = "pki/junk.pem"', "client_ca", "pki/junk.pem", "expected PEM"),
    tls("client_ca, half of it good", 'client_ca = "pki/half.pem"', "client_ca", "pki/half.pem", "expected"),
    tls("no such chain in [tls]", 'chain = "pki/absent.pem"', "chain", "pki/absent.pem: no such file"),
]

LIMITS = [
    Bad("limits no table", GOOD + "limits = 1", "endpoints.limits", ["1 is an integer"]),
    Bad("unknown limit", f"{GOOD}[limits]\nidel = '1s'", "limits.idel", ["did you mean idle?"]),
    Bad(
        "[limits] no duration", f"{GOOD}[limits]\nidle = 'soon'", "limits.idle", ["'soon' is not a duration"]
    ),
    limit("a count that is a string", "connections = '5'", "'5' is a string", "expected a whole number"),
    limit("a count of none", "connections = 0", "0 is out of range", "1 or more"),
    limit("a negative count", "per_peer = -1", "-1 is out of range"),
    limit("a count that is true", "per_peer = true", "is a boolean", "expected a whole number"),
    limit(
        "a duration without a unit", "idle = 30", "30 is an integer", 'expected a duration such as "250ms"'
    ),
    limit("a duration with a wrong one", "idle = '30 parsecs'", "'30 parsecs' is not a duration"),
    limit("a duration that is negative", "stall = '-1s'", "'-1s' is not a duration"),
    limit("a duration too short to keep", "half_close = '1ms'", "'1ms' is too short", "250ms"),
    limit("a keep-alive too short", "keepalive = '500ms'", "'500ms' is out of range", '"1s" to "9h"'),
    limit("a keep-alive too long", "keepalive = '10h'", "'10h' is out of range", '"1s" to "9h"'),
    limit("a size without a unit", "bytes = 1024", "1024 is an integer", 'expected a size such as "64KiB"'),
    limit("a size of another kind", "bytes = '64kb'", "'64kb' is not a size"),
    limit("a size of nothing", "bytes = '0B'", "'0B' is too small; expected a size"),
    limit("a unit of others", "bytes = '1 GB'", "'1 GB' is not a size", 'did you mean "1GiB"?'),
    limit("networks that are none", "allow = '10.0.0.0/8'", "is a string", "expected an array of networks"),
    limit("a network that is a number", "deny = [10]", "10 is an integer", "expected an array of networks"),
    limit(
        "no network",
        "allow = ['localhost']",
        "'localhost' is not a network",
        "expected one such as 192.0.2.0/24",
    ),
    limit("a network with a host in it", "allow = ['10.1.2.3/8']", "did you mean 10.0.0.0/8?"),
    limit("a user that does not exist", "users = ['no one']", "'no one' does not exist", kind="unix:e.sock"),
    limit(
        "a group that does not exist", "groups = ['no one']", "'no one' does not exist", kind="unix:e.sock"
    ),
    limit("a user without a name", "users = ['']", "'' cannot be a name", kind="unix:e.sock"),
    limit("users of a port", "users = ['root']", "does not go with tcp:", "UNIX"),
    limit("a rate of a stream", "rate = 5", "does not go with tcp:", "UDP"),
    limit(
        "a switch that is a string", "answer_own_ports = 'yes'", "'yes' is a string", "expected true or false"
    ),
    limit("connections of datagrams", "connections = 5", "does not go with udp:", "streams", kind="udp:0"),
    limit("peers without addresses", "per_peer = 5", "does not go with unix:", kind="unix:e.sock"),
    limit("a handshake where there is none", "handshake = '5s'", "does not go with tcp:", "TLS"),
    limit("a proxy where there is none", "proxy_from = ['::1']", "does not go with tcp:", "haproxy:"),
    Bad("no drain", "drain = 'long'\n" + GOOD, "drain", ["'long' is not a duration"]),
    Bad("no user", "user = ''\n" + GOOD, "user", ["'' cannot be used", "the name of a user"]),
]

TLS_TABLES = [
    Bad("tls is a string", GOOD + "[[tls]]", "tls", ["[{}] is an array; expected a table"]),
    tls("version unknown", 'minimum = "1.1"', "minimum", "'1.1'", 'expected "1.2" or "1.3"'),
    tls(
        "version in another notation",
        'maximum = "TLSv1.3"',
        "maximum",
        "'TLSv1.3'",
        'expected "1.2" or "1.3"',
    ),
    tls("version is a float", "minimum = 1.2", "minimum", "1.2 is a float", 'expected a TLS version, "1.2"'),
    tls(
        "minimum above maximum",
        'minimum = "1.3"\nmaximum = "1.2"',
        "minimum",
        '"1.3" is above maximum "1.2"',
        "expected",
    ),
    tls("alpn is a string", 'alpn = "h2"', "alpn", "'h2' is a string; expected an array of protocol names"),
    tls("alpn has a number", "alpn = [2]", "alpn", "2 is not a protocol name", "expected 1 to 255"),
    tls(
        "alpn has an empty name",
        'alpn = ["h2", ""]',
        "alpn",
        "'' is not a protocol name",
        "expected 1 to 255",
    ),
    tls("alpn has a long name", f'alpn = ["{"x" * 256}"]', "alpn", "xxx", "expected 1 to 255"),
    tls("alpn is not ASCII", 'alpn = ["é"]', "alpn", "'é' is not a protocol name", "expected 1 to 255 ASCII"),
    tls("client_ca is an array", "client_ca = []", "client_ca", "[] is an array; expected the path"),
    tls("client_ca is empty", 'client_ca = ""', "client_ca", "''", "expected the path of a PEM file"),
    tls("chain has a NUL", 'chain = "a\\u0000b"', "chain", r"'a\x00b'", "expected the path of a PEM file"),
    tls("unknown key of [tls]", 'ca_file = "ca.pem"', "ca_file", "unknown key", "did you mean"),
    Bad(
        "maximum below an inherited minimum",
        f"[tls]\nminimum = '1.3'\n[endpoints.echo]\nlisten = '{TLS}'\ntls.maximum = '1.2'",
        "endpoints.echo.tls.maximum",
        ['"1.3" is above maximum "1.2"', "expected"],
    ),
    Bad(
        "tls for an endpoint without TLS",
        "[endpoints.echo]\nlisten = 'tcp:0'\ntls.minimum = '1.3'",
        "endpoints.echo.tls",
        ["does not go with tcp:", "expected listen to be an ssl:"],
    ),
    Bad(
        "tls of an endpoint is a boolean",
        f"[endpoints.echo]\nlisten = '{TLS}'\ntls = true",
        "endpoints.echo.tls",
        ["True is a boolean; expected a table"],
    ),
]

TABLE = [*FILE, *SHAPE, *ANSWERS, *LIMITS, *DESCRIPTIONS, *COLLISIONS, *CREDENTIALS, *TLS_TABLES]


def without_curve(pem: bytes) -> bytes:
    """*pem* with its P-256 made a curve that nobody has implemented."""
    match = re.fullmatch(rb"(-----BEGIN [A-Z ]+-----\n)(.*)(-----END [A-Z ]+-----\n)", pem, re.DOTALL)
    assert match
    p256, p192v2 = (bytes.fromhex(oid) for oid in ("06082a8648ce3d030107", "06082a8648ce3d030102"))
    der = base64.b64decode(match[2])
    assert p256 in der
    return match[1] + base64.encodebytes(der.replace(p256, p192v2)) + match[3]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a ``pki`` of good and bad certificates and keys, and no ``certs``."""
    directory = tmp_path_factory.mktemp("bad")
    pki = directory / "pki"
    certs.mint(pki)
    key = (pki / "server.key").read_bytes()
    certificate = (pki / "server.pem").read_bytes()
    bitcoin = ec.generate_private_key(ec.SECP256K1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    (directory / "none").mkdir()
    encrypted = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    exchange = x25519.X25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    crl = b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"
    for name, content, mode in (
        ("junk.pem", b"junk\n", 0o644),
        ("junk.key", b"junk\n", 0o600),
        ("server.der", load_certificates(pki / "server.pem")[0].public_bytes(Encoding.DER), 0o644),
        ("private.pem", certificate, 0o600),
        ("half.pem", certificate + crl, 0o644),
        ("curve.pem", without_curve(certificate), 0o644),
        ("curve.key", without_curve(key), 0o600),
        ("encrypted.key", encrypted, 0o600),
        ("x25519.key", exchange, 0o600),
        ("bitcoin.key", bitcoin, 0o600),
        ("everyone.key", key, 0o644),
        ("others.key", key, 0o602),
    ):
        (pki / name).write_bytes(content)
        (pki / name).chmod(mode)
    return directory


def complaint(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which ``check`` refuses the file at *path*."""
    code = main(["check", "--config", str(path)])
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err
    assert path.name in err
    return err


@pytest.mark.parametrize("bad", TABLE, ids=[bad.id for bad in TABLE])
def test_one_line_names_the_fault(
    bad: Bad, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(directory)
    err = complaint(write_config(directory, bad.text, "bad.toml"), capsys)
    key = "" if bad.key is None else re.escape(bad.key) + ": "
    # A value that an endpoint inherits may be named where it was said, or where it is of use.
    assert re.match(rf"bad\.toml: (endpoints\.echo\.(?=tls))?{key}", err)
    for fragment in bad.fragments:
        assert fragment in err


def test_every_fault_in_the_table_has_its_own_name() -> None:
    assert len({bad.id for bad in TABLE}) == len(TABLE) >= 35


# Files with more than one mistake.


def complaints(path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines with which ``check`` refuses the file at *path*, without its name."""
    assert main(["check", "--config", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert all(line.startswith(f"{path.name}: ") for line in lines)
    return [line.removeprefix(f"{path.name}: ") for line in lines]


def starts(lines: Sequence[str], expected: Sequence[str]) -> bool:
    """Whether each of *lines* starts as *expected*, and there are no others."""
    pairs = zip(lines, expected, strict=False)
    return len(lines) == len(expected) and all(line.startswith(start) for line, start in pairs)


def test_all_mistakes_of_a_file_are_reported_in_its_order(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the table, of descriptions and of certificates, in one run."""
    monkeypatch.chdir(directory)
    text = f"""
drian = "1s"
drain = "long"
user = "no such user"
[endpoints]
"a b" = "tcp:0"
typo = "tpc:0"
tls = "ssl:0:privateKey=pki/absent.key:certKey=pki/server.pem"
good = "tcp:1234"
taken = "tcp:1234"
[endpoints.more]
listen = "tcp:http"
lsten = 1
limits = {{ idle = 5, allow = ["x", "192.0.2.0/24", "y"] }}
tls = {{ minimum = "1.1", alpn = "h2" }}
[endpoints.fine]
listen = "{TLS}"
[limits]
conections = 5
per_peer = 0
[tls]
client_ca = "pki/absent.pem"
"""
    assert starts(
        complaints(write_config(directory, text, "bad.toml"), capsys),
        [
            "drian: unknown key; did you mean drain?",
            "drain: 'long' is not a duration",
            "user: ",
            "endpoints: 'a b' cannot name an endpoint",
            "endpoints.typo.listen: 'tpc' ",
            "endpoints.tls.listen: pki/absent.key: no such file",
            "endpoints.taken.listen: 127.0.0.1:1234 is taken by endpoints.good",
            "endpoints.more.listen: port 'http' ",
            "endpoints.more.lsten: unknown key; did you mean listen?",
            "endpoints.more.limits.idle: 5 is an integer",
            "endpoints.more.limits.allow: 'x' is not a network",
            "endpoints.more.limits.allow: 'y' is not a network",
            "endpoints.more.tls.minimum: '1.1' ",
            "endpoints.more.tls.alpn: 'h2' is a string",
            "limits.conections: unknown key; did you mean connections?",
            "limits.per_peer: 0 is out of range",
            "tls.client_ca: pki/absent.pem: no such file",
        ],
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # A `listen` that is wrong is not followed by what its endpoint cannot have then.
        (
            "[endpoints.echo]\nlisten = 'tpc:0'\nlimits.rate = 5\ntls.minimum = '1.3'",
            ["endpoints.echo.listen: "],
        ),
        # What is inherited by many is wrong in one place.
        ("[endpoints]\na = 'tcp:0'\nb = 'udp:0'\n[limits]\nidle = 1", ["limits.idle: "]),
        (
            f"[endpoints]\na = '{TLS}'\nb = '{TLS}'\n[tls]\nchain = 'pki/absent.pem'",
            ["tls.chain: pki/absent.pem"],
        ),
        # Two versions that do not go together say nothing about a third.
        (
            f"[endpoints.a]\nlisten = '{TLS}'\ntls.maximum = '1.2'\n[tls]\nminimum = '1.3'\nmaximum = '1.2'",
            ["tls.minimum: "],
        ),
        # An endpoint that is wrong takes no address from another.
        ("[endpoints]\na = 'tcp:1:interfase=x'\nb = 'tcp:1'", ["endpoints.a.listen: "]),
        # All that is wrong with an endpoint's files.
        (
            "[endpoints]\na = 'ssl:0:privateKey=pki/no.key:certKey=pki/no.pem'\n"
            "[tls]\nclient_ca = 'pki/no-ca.pem'",
            [
                "endpoints.a.listen: pki/no.pem",
                "endpoints.a.listen: pki/no.key",
                "tls.client_ca: pki/no-ca.pem",
            ],
        ),
        # What does not go with its type, each by itself.
        (
            "[endpoints.a]\nlisten = 'tcp:0'\nlimits = { rate = 5, handshake = '5s' }\ntls = {}",
            ["endpoints.a.limits.rate: ", "endpoints.a.limits.handshake: ", "endpoints.a.tls: "],
        ),
    ],
)
def test_a_mistake_has_no_follow_up_mistakes(
    text: str,
    expected: list[str],
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(directory)
    lines = complaints(write_config(directory, text, "bad.toml"), capsys)
    assert starts(lines, expected), lines


def test_no_certificates_are_made_for_a_file_with_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(
        tmp_path,
        "[endpoints]\ntls = 'ssl:0:privateKey=certs/server.key:certKey=certs/server.pem'\ntcp = 'tpc:0'",
    )
    assert main(["--config", str(path)]) == 2
    assert "endpoints.tcp.listen: 'tpc'" in capsys.readouterr().err
    assert os.listdir(tmp_path) == [path.name]


# Files that cannot be read at all.


def test_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    err = complaint(tmp_path / "absent.toml", capsys)
    assert "no such file; expected a configuration" in err
    assert "--config" in err
    assert '`[endpoints]` and `tcp = "tcp:1234"`' in err


def test_a_file_in_a_missing_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such file" in complaint(tmp_path / "absent" / "config.toml", capsys)


def test_a_directory_in_place_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is a directory; expected a configuration file" in complaint(tmp_path, capsys)


def test_a_directory_above_us_is_shown_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert complaint(tmp_path, capsys).startswith(f"{tmp_path}: is a directory")


def test_standard_input_is_not_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", "-"]) == 2
    assert capsys.readouterr().err == (
        "-: standard input cannot be the configuration; expected a file, which SIGHUP can read again\n"
    )


def test_a_file_below_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_config(tmp_path, GOOD) / "config.toml"
    assert "cannot be read: Not a directory" in complaint(path, capsys)


def test_a_name_that_is_too_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot be read: File name too long" in complaint(tmp_path / ("x" * 300), capsys)


def test_a_file_that_this_user_may_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For root there is no such file, so the system's answer is feigned."""

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    path = write_config(tmp_path, GOOD)
    monkeypatch.setattr("suite.config.document.read_file", refuse)
    assert "cannot be read: Permission denied" in complaint(path, capsys)


def test_a_name_with_a_line_break_makes_one_line_still(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--config", str(tmp_path / "a\nb\x1b[2J.toml")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert r"a\nb\x1b[2J.toml" in line


def test_a_certificate_that_openssl_refuses(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One with a key of 1024 bits, for instance."""
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "weak.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, SHA256())
    )
    monkeypatch.chdir(directory)
    weak = directory / "pki" / "weak.pem"
    weak.write_bytes(
        certificate.public_bytes(Encoding.PEM)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    weak.chmod(0o600)
    err = complaint(write_config(directory, "[endpoints]\necho = 'ssl:0:pki/weak.pem'"), capsys)
    assert "endpoints.echo.listen: " in err
    assert "pki/weak.pem" in err
    assert "too small" in err


# What only looks like a mistake.


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("tcp:1234", "udp:1234"),
        ("tcp:0", "tcp:0"),
        ("udp:0", "udp:0"),
        ("tcp:0:interface=0.0.0.0", "tcp:0"),
        ("tcp:1234", "tcp:1235"),
        ("tcp:1234:interface=127.0.0.1", "tcp:1234:interface=127.0.0.2"),
        ("tcp:1234", "tcp6:1234"),
        ("udp:1234", "udp6:1234"),
        ("unix:a.sock", "unix:b.sock"),
        ("systemd:INET:name=a", "systemd:INET:name=b"),
    ],
)
def test_two_endpoints_that_can_both_be(
    first: str, second: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path, f"[endpoints]\nfirst = '{first}'\nsecond = '{second}'\n")
    assert main(["check", "--config", str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert len(out.splitlines()) == 3


@pytest.mark.parametrize(
    "good", ["tcp:0:interface=localhost", "unix:a.sock:mode=0600", "tcp:65535", "udp:00080"]
)
def test_descriptions_at_the_edge_of_what_is_allowed(
    good: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--config", str(write_config(tmp_path, f"[endpoints]\necho = '{good}'"))]) == 0
    assert "1 endpoint, no errors" in capsys.readouterr().out


def test_an_abstract_unix_socket_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its path begins with NUL, which TOML can write; for people it is shown with ``@``, like ss(8)."""
    path = write_config(tmp_path, '[endpoints]\necho = "unix:\\u0000echo"')
    assert main(["check", "--config", str(path)]) == 0
    assert "@echo" in capsys.readouterr().out


def test_a_path_that_only_its_directory_makes_too_long_is_used_from_where_we_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    monkeypatch.chdir(deep)
    path = write_config(deep, '[endpoints]\necho = "unix:echo.sock"')
    assert main(["check", "--config", str(path)]) == 0
    assert "echo.sock" in capsys.readouterr().out


def test_a_directory_whose_name_is_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is wrong with it; only showing it is an art."""
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        odd.mkdir()
    except OSError:
        pytest.skip("the file system takes UTF-8 only")
    assert main(["check", "--config", str(write_config(odd, GOOD))]) == 0
    assert "1 endpoint, no errors" in capsys.readouterr().out


def raising(error: Exception) -> Any:
    """A function that raises *error*."""

    def function(*_args: object, **_kwargs: object) -> None:
        raise error

    return function


def test_a_fault_of_our_own_is_not_passed_off_as_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only errors that a user can cause become one line; a bug keeps its traceback."""
    monkeypatch.setattr("suite.endpoints.parser.parse_all", raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main(["check", "--config", str(write_config(tmp_path, GOOD))])
