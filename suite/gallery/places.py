"""Where each specimen is: the endpoints that a gallery adds to a configuration.

Rules: the port of a specimen does not depend on what this machine can serve, so that ports are the same
everywhere; the endpoints are ordinary ones, named ``gallery-`` and what they serve.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from twisted.internet.endpoints import quoteStringArgument

from suite.config.file import Config, Endpoint
from suite.config.gallery import GalleryTable
from suite.config.tls import TLS
from suite.errors import ConfigError
from suite.gallery.specimens import LEFT_OUT, SPECIMENS
from suite.text import shown, suggest

#: What endpoints serve besides specimens: the page and gallery.json, and all specimens by name (SNI).
INDEX: Final = "index"
BY_NAME: Final = "sni"

#: Seconds that a client has for the handshake with a server that never answers: longer than a client's own
#: patience should be.
HANG: Final = 120.0
_HANGS: Final = "hang-in-handshake"


def with_gallery(config: Config, left_out: Collection[str] = ()) -> Config:
    """*config* with the endpoints of its gallery, if it has one.

    :param left_out: specimens that are not served.
    :raises ConfigError: the gallery names a specimen that there is not, or there is no room for its ports.
    """
    table = config.gallery
    if table is None:
        return config
    wanted = wanted_specimens(config)
    found = [_place(table, INDEX, -2, tls=False), _place(table, BY_NAME, -1)]
    for number, specimen in enumerate(SPECIMENS):
        if specimen.name in wanted and specimen.name not in left_out:
            found.append(_place(table, specimen.name, number))
    taken = {endpoint.name for endpoint in config.endpoints}
    for endpoint in found:
        if endpoint.name in taken:
            raise ConfigError(
                shown(config.file),
                f"endpoints.{endpoint.name}",
                "is a name of the gallery's; expected another",
            )
    return replace(config, endpoints=(*config.endpoints, *found))


def wanted_specimens(config: Config) -> frozenset[str]:
    """The names of the specimens that the gallery of *config* is to serve.

    :raises ConfigError: it names one that there is not, or there is no room for its ports.
    """
    table, file = config.gallery, shown(config.file)
    names = [specimen.name for specimen in SPECIMENS]
    if table is None:
        return frozenset()
    for name in table.only:
        if name not in names and name not in LEFT_OUT:
            raise ConfigError(file, "gallery.only", f"{name!r} is not a specimen{suggest(name, names)}")
    if table.ports and table.ports + len(names) - 1 > 65_535:
        raise ConfigError(
            file,
            "gallery.ports",
            f"{table.ports} leaves no room for {len(names)} ports; expected {65_536 - len(names)} at most",
        )
    return frozenset(table.only or names)


def _place(table: GalleryTable, what: str, offset: int, *, tls: bool = True) -> Endpoint:
    port = table.ports + offset if table.ports else 0
    kind = "ssl" if tls else "tcp6" if ":" in table.host else "tcp"
    limits = table.limits
    if what == _HANGS and "handshake" not in table.own_limits:
        limits = replace(limits, handshake=HANG)
    endpoint = Endpoint(
        f"gallery-{what}",
        f"{kind}:{port}:interface={quoteStringArgument(table.host)}",
        TLS(),
        limits,
        gallery=what,
    )
    if not tls:
        return endpoint
    # What is wrong with limits and faults is said once for all of them.
    own = table.own_limits if what == BY_NAME else frozenset[str]()
    return replace(endpoint, own_limits=own, faults=table.faults, answer=table.answer)
