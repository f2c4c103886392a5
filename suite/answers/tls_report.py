"""What a report says about TLS: what was agreed on, and what the client offered.

Rules: whatever is not known is None, and never guessed; lists have at most `MOST` entries, with the number of
those left out beside them, so that a report stays small whatever a client sends. Numbers of the registries
are strings of four hexadecimal digits, as the RFCs write them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL

from suite.client_hello import ClientHello, is_grease
from suite.engine.hello import ReceivedHello
from suite.engine.openssl import has_resumed, verify_error
from suite.fingerprints import ja3, ja3_hash, ja4
from suite.tls_names import EXTENSIONS, GROUPS, POINT_FORMATS, PSK_MODES, SIGNATURES, SUITES, VERSIONS

#: Entries of a list that are shown. Real clients offer some 100 suites at the most.
MOST: Final = 256

Report = dict[str, object]


def tls_report(transport: Any) -> Report:
    """What is known of the TLS connection of *transport*, ready for JSON.

    :param transport: a transport of this suite, or Twisted's own, once its handshake has completed; or what
        stands in its place, as `suite.faults.streams.FaultyStream` does. An endpoint whose protocols do not
        have ``wants_client_hello`` has not kept the ClientHello.
    :returns: nothing if it does not speak TLS.
    """
    handle = getattr(transport, "getHandle", lambda: None)()
    if not isinstance(handle, SSL.Connection):
        return {}
    received: ReceivedHello | None = getattr(transport, "received_hello", None)
    if received is None:  # Twisted's own TLS
        received = getattr(handle, "received_hello", None)
    hello = received.hello if received is not None else None
    name = handle.get_servername()
    protocol = handle.get_alpn_proto_negotiated()
    return {
        "version": handle.get_protocol_version_name(),
        "suite": handle.get_cipher_name(),
        "group": _group(handle),
        "sni": name.decode("ascii", "backslashreplace") if name is not None else None,
        "alpn": protocol.decode("ascii", "backslashreplace") if protocol else None,
        "resumed": has_resumed(handle),
        "early_data_offered": hello.offers_early_data if hello is not None else None,
        "client_certificate": _certificate(handle),
        "client_hello": hello_report(received) if received is not None else None,
    }


def _group(handle: SSL.Connection) -> str | None:
    try:
        return handle.get_group_name()
    except NotImplementedError:  # OpenSSL before 3.2
        return None


def _certificate(handle: SSL.Connection) -> Report | None:
    """The certificate that the client has shown; in a resumed session, the one that it had shown before."""
    certificate = handle.get_peer_certificate(as_cryptography=True)
    if certificate is None:
        return None
    error = verify_error(handle)
    names, left_out = _names(certificate)
    return {
        "subject": certificate.subject.rfc4514_string(),
        "names": names,
        **({"names_left_out": left_out} if left_out else {}),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
        "verified": not error,
        "error": error or None,
    }


def _names(certificate: x509.Certificate) -> tuple[list[str], int]:
    """The first `MOST` names in a certificate (RFC 5280, section 4.2.1.6), and how many more there are."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):  # or it cannot be read
        return [], 0
    names = [*found]
    return [_name(name) for name in names[:MOST]], max(0, len(names) - MOST)


def _name(name: x509.GeneralName) -> str:
    """A name as OpenSSL writes it: its kind and its value."""
    if isinstance(name, x509.DirectoryName):
        return f"dirName:{name.value.rfc4514_string()}"
    if isinstance(name, x509.OtherName):
        return f"othername:{name.type_id.dotted_string}"
    if isinstance(name, x509.RegisteredID):
        return f"RID:{name.value.dotted_string}"
    for kind, word in (
        (x509.DNSName, "DNS"),
        (x509.IPAddress, "IP"),
        (x509.RFC822Name, "email"),
        (x509.UniformResourceIdentifier, "URI"),
    ):
        if isinstance(name, kind):
            return f"{word}:{name.value}"
    return str(name)


def hello_report(received: ReceivedHello) -> Report:
    """A ClientHello as JSON has it."""
    hello = received.hello
    came: Report = {
        "reads": [*received.reads],
        "read_count": received.read_count,
        "segments": received.segments,
        "retried": received.retried,
    }
    if hello is None:
        return {"readable": False, **came}
    left_out: dict[str, int] = {}

    def cut(key: str, values: Sequence[Any]) -> list[Any]:
        if len(values) > MOST:
            left_out[key] = len(values) - MOST
        return [*values[:MOST]]

    def listed(key: str, numbers: Sequence[int], names: Mapping[int, str]) -> list[Report]:
        return [_number(number, names) for number in cut(key, numbers)]

    report: Report = {
        "readable": True,
        "legacy_version": _number(hello.legacy_version, VERSIONS),
        "versions": listed("versions", hello.versions, VERSIONS),
        "suites": listed("suites", hello.suites, SUITES),
        "extensions": [
            {**_number(kind, EXTENSIONS), "length": size}
            for kind, size in cut("extensions", hello.extensions)
        ],
        "groups": listed("groups", hello.groups, GROUPS),
        "key_shares": [
            {**_number(group, GROUPS), "length": size} for group, size in cut("key_shares", hello.key_shares)
        ],
        "signature_algorithms": listed("signature_algorithms", hello.signatures, SIGNATURES),
        "signature_algorithms_cert": listed(
            "signature_algorithms_cert", hello.certificate_signatures, SIGNATURES
        ),
        "point_formats": [
            POINT_FORMATS.get(each, each) for each in cut("point_formats", hello.point_formats)
        ],
        "psk_modes": [PSK_MODES.get(each, each) for each in cut("psk_modes", hello.psk_modes)],
        "compression_methods": cut("compression_methods", hello.compressions),
        "sni": hello.name,
        "alpn": [each.decode("ascii", "backslashreplace") for each in cut("alpn", hello.protocols)],
        "session_id_length": hello.session_size,
        "malformed": [_hex(kind) for kind in cut("malformed", hello.malformed)],
        "length": hello.size,
        "record_version": _number(hello.record_version, VERSIONS),
        "records": cut("records", hello.records),
        **came,
        **fingerprints(hello),
    }
    if left_out:
        report["left_out"] = left_out
    return report


def fingerprints(hello: ClientHello) -> dict[str, str | None]:
    """JA3, its hash, and JA4; JA3 itself is left out (None) where lists are cut."""
    too_long = max(map(len, (hello.suites, hello.extensions, hello.groups, hello.point_formats))) > MOST
    return {"ja3": None if too_long else ja3(hello), "ja3_hash": ja3_hash(hello), "ja4": ja4(hello)}


def _number(number: int, names: Mapping[int, str]) -> Report:
    """A number of a registry, with its name, or the mark that it is GREASE (RFC 8701)."""
    found: Report = {"id": _hex(number)}
    if is_grease(number):
        found["grease"] = True
    elif number in names:
        found["name"] = names[number]
    return found


def _hex(number: int) -> str:
    return f"0x{number:04x}"
