"""The table ``[gallery]``: where bad TLS is served, under which limits and faults.

Rules: which specimens there are is not known here (`suite.gallery.specimens` knows); the limits, the faults
and the answer of a gallery are those of each of its endpoints.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from suite.config.fault_tables import ENDPOINT_KEYS, read_faults
from suite.config.faults import NO_FAULTS, Faults, Profile
from suite.config.limits import Limits
from suite.config.values import Values

#: The keys of the table.
KEYS: Final = ("answer", "ca", "domain", "host", "limits", "only", "ports", *ENDPOINT_KEYS)

#: The port of the first specimen; those of the index and of the choice by name are just below it.
DEFAULT_PORTS: Final = 4500

#: The ports below `ports` that are needed: one for the choice by name (SNI), one for the index.
BELOW: Final = 2

#: RFC 1034, section 3.5; RFC 1123, section 2.1.
_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")

_PORTS: Final = "the port of the first specimen, such as 4500, or 0 to let the system choose all of them"
_DOMAIN: Final = 'a domain, such as "localhost"'
_ONLY: Final = 'an array of specimens, such as ["good", "expired"]'


@dataclass(frozen=True)
class GalleryTable:
    """What the table says.

    :ivar ports: the port of the first specimen, from which the others count up; 0: the system chooses.
    :ivar host: the IP address that all endpoints bind.
    :ivar domain: what follows a specimen's name in its host name.
    :ivar only: the specimens that are served; empty: all.
    :ivar ca: where the certificate of the CA is written; None: only the index has it.
    :ivar limits: as an endpoint's.
    :ivar own_limits: the limits that the table itself names.
    :ivar faults: as an endpoint's.
    :ivar answer: as an endpoint's.
    """

    ports: int = DEFAULT_PORTS
    host: str = "127.0.0.1"
    domain: str = "localhost"
    only: tuple[str, ...] = ()
    ca: Path | None = None
    limits: Limits = field(default_factory=Limits)
    own_limits: frozenset[str] = frozenset()
    faults: Faults = NO_FAULTS
    answer: str = "echo"


def is_domain(text: str) -> bool:
    """Whether specimens can have names in the domain *text*, in lower case."""
    # A label for the specimen, and its dot, have to fit, too (RFC 1035, section 2.3.4).
    return len(text) <= 200 and all(map(_LABEL.fullmatch, text.split(".")))


class _Gallery(Values):
    """Reads the values of the table."""

    def ports(self, value: object, key: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong_type(key, value, _PORTS)
        if value != 0 and not BELOW < value <= 65_535:
            raise self.error(key, f"{value} is out of range; expected {_PORTS}")
        return value

    def host(self, value: object, key: str) -> str:
        expected = 'an IP address, such as "127.0.0.1"'
        text = self.string(value, key, expected)
        try:
            return str(ip_address(text))
        except ValueError:
            raise self.error(key, f"{text!r} is not an address; expected {expected}") from None

    def domain(self, value: object, key: str) -> str:
        text = self.string(value, key, _DOMAIN).lower()
        if not is_domain(text):
            raise self.error(key, f"{text!r} is not a domain; expected {_DOMAIN}")
        return text

    def only(self, value: object, key: str) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise self.wrong_type(key, value, _ONLY)
        return self.each(value, key, lambda each, key: self.string(each, key, _ONLY))


def read_gallery(
    values: Values,
    value: object,
    defaults: Limits,
    seed: int,
    profiles: Mapping[str, Profile],
) -> GalleryTable:
    """The gallery that the table *value* declares; what is wrong with it is in the mistakes of *values*.

    :param defaults: the limits of all endpoints.
    :param seed: that of faults which have none of their own.
    :param profiles: the profiles that faults may name.
    :raises ConfigError: it is no table.
    """
    reader = _Gallery(values.file, values.directory, values.mistakes)
    table = reader.table(value, "gallery", KEYS)
    found = reader.values(
        {name: item for name, item in table.items() if name not in (*ENDPOINT_KEYS, "limits")},
        "gallery",
        {
            "answer": lambda item, key: reader.string(item, key, 'an answer, such as "report"'),
            "ca": lambda item, key: reader.path(item, key, "the path of a file to write"),
            "domain": reader.domain,
            "host": reader.host,
            "only": reader.only,
            "ports": reader.ports,
        },
    )
    limits, own = defaults, frozenset[str]()
    with reader.mistakes.noted():
        limits, own = reader.limits(table.get("limits", {}), "gallery.limits", defaults)
    faults = read_faults(reader, table, "gallery", seed, profiles)
    return GalleryTable(limits=limits, own_limits=own, faults=faults, **found)
