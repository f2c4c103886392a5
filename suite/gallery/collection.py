"""The gallery as it is served: every specimen minted, tried, and minted again before its day passes.

Rules: the CA lives as long as the process, so that a client which trusts it goes on doing so; what cannot be
made or spoken here is left out, with the reason; nothing is written but the CA's certificate, where the
configuration says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.x509 import load_pem_x509_certificate
from OpenSSL import SSL

from suite.config.file import Config
from suite.config.gallery import GalleryTable
from suite.errors import UnwritableError
from suite.files import make_directory, write_whole
from suite.gallery import legacy, specimens
from suite.gallery.behaviours import BEHAVIOURS, PLAIN, Behaviour
from suite.gallery.contexts import (
    DirectoryContext,
    ExhibitContext,
    UnspeakableError,
    exhibit_context,
    try_out,
)
from suite.gallery.mint import Authority, Minted, Unmintable, mint
from suite.gallery.places import BY_NAME, INDEX, wanted_specimens
from suite.gallery.specimens import LEFT_OUT, SPECIMENS, Specimen
from suite.text import shown

#: The version of gallery.json.
VERSION: Final = 1

#: Specimens about the very name that the client has asked for: chosen by it, they need another certificate.
_NAMED: Final = frozenset({"cn-only", "nul-in-name", "partial-wildcard", "wildcard-too-deep"})


def _utc_now() -> datetime:
    return datetime.now(UTC)


class PublicAuthority(NamedTuple):
    """What everybody may know of an `Authority`."""

    pem: bytes
    until: datetime


class Gallery:
    """All specimens of one configuration.

    :param config: has a gallery.
    :param before: the gallery that is being served, whose CA and certificates are used again as long as they
        are good; it is not modified.
    :param now: what time it is; what was asked before goes on being asked.
    :ivar table: what the configuration says.
    :ivar authority: the CA behind them.
    :ivar exhibits: what is served, by name.
    :ivar by_name: the same for clients that choose by name (SNI).
    :ivar left_out: what is not, and why, by name.
    :raises ConfigError: the configuration names a specimen that there is not, or there is no room for its
        ports.
    """

    def __init__(
        self, config: Config, before: Gallery | None = None, now: Callable[[], datetime] = _utc_now
    ) -> None:
        assert config.gallery is not None  # noqa: S101
        wanted = wanted_specimens(config)
        self.table: GalleryTable = config.gallery
        self.now: Callable[[], datetime] = before.now if before is not None else now
        time = self.now()
        if before is not None and time >= before.authority.until:
            before = None
        self.authority: Any = before.authority if before is not None else Authority(time)
        if before is not None and (before.table.host, before.table.domain) != (
            self.table.host,
            self.table.domain,
        ):
            before = None
        self.exhibits: dict[str, ExhibitContext] = {}
        self.by_name: dict[str, ExhibitContext] = {}
        self.left_out: dict[str, str] = dict(LEFT_OUT)
        for specimen in SPECIMENS:
            if specimen.name in wanted:
                self._show(specimen, before, time)
        self._directory = DirectoryContext(self.by_name, self.table.domain)

    def _show(self, specimen: Specimen, before: Gallery | None, time: datetime) -> None:
        name = specimen.name
        if before is not None:
            kept = before.exhibits.get(name)
            if kept is not None and not _due(kept, time):
                self.exhibits[name] = kept
                self.by_name[name] = before.by_name[name]
                return
            if name in before.left_out:
                self.left_out[name] = before.left_out[name]
                return
        behaviour = behaviour_of(specimen)
        try:
            if behaviour.legacy is not None and (problem := legacy.missing()) is not None:
                raise UnspeakableError(problem)
            names = self._names(name)
            exhibit = by_name = self._exhibit(specimen, behaviour, names, time)
            if name in _NAMED:
                asked = f"{name}.{self.table.domain}"
                names.remove(asked)
                by_name = self._exhibit(specimen, behaviour, [asked, *names], time)
        except (Unmintable, UnspeakableError) as error:
            self.left_out[name] = str(error)
        else:
            self.exhibits[name], self.by_name[name] = exhibit, by_name

    def _exhibit(
        self, specimen: Specimen, behaviour: Behaviour, names: Sequence[str], time: datetime
    ) -> ExhibitContext:
        """What presents *specimen*, tried out.

        :raises Unmintable: it cannot be made here.
        :raises UnspeakableError: it cannot be spoken here.
        """
        minted = mint(specimen.certificate, self.authority, names, time)
        exhibit = exhibit_context(specimen.name, behaviour, minted, self.authority.pem)
        if behaviour.legacy is None:
            try_out(exhibit)
        return exhibit

    def _names(self, specimen: str) -> list[str]:
        """The names by which clients reach a specimen."""
        table = self.table
        names = ["localhost", f"{specimen}.{table.domain}", table.domain, "127.0.0.1", "::1", table.host]
        return [*dict.fromkeys(names)]

    # To another process of the suite: certificates and keys, but none of the CA's.

    def __getstate__(self) -> dict[str, Any]:
        return {
            "table": self.table,
            "authority": PublicAuthority(self.authority.pem, self.authority.until),
            "exhibits": {name: exhibit.minted for name, exhibit in self.exhibits.items()},
            "by_name": {name: exhibit.minted for name, exhibit in self.by_name.items()},
            "left_out": self.left_out,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.now = _utc_now
        self.table, self.authority, self.left_out = state["table"], state["authority"], state["left_out"]
        self.exhibits = self._shown(state["exhibits"])
        self.by_name = self._shown(state["by_name"])
        self._directory = DirectoryContext(self.by_name, self.table.domain)

    def _shown(self, minted: Mapping[str, Minted]) -> dict[str, ExhibitContext]:
        return {
            name: exhibit_context(name, behaviour_of(specimens.BY_NAME[name]), each, self.authority.pem)
            for name, each in minted.items()
        }

    @property
    def due(self) -> list[str]:
        """The specimens whose day is passing: a `Gallery` made now, of this one, mints them again."""
        time = self.now()
        if time >= self.authority.until:
            return [*self.exhibits]
        return [name for name, exhibit in self.exhibits.items() if _due(exhibit, time)]

    def context(self, what: str) -> SSL.Context | None:
        """The context of the endpoint that serves *what* of the gallery; None: it speaks no TLS."""
        if what == INDEX:
            return None
        return self._directory if what == BY_NAME else self.exhibits[what]

    def manifest(self, ports: Mapping[str, int]) -> dict[str, Any]:
        """What gallery.json says.

        :param ports: the ports that are open, by what they serve.
        """
        table = self.table
        return {
            "version": VERSION,
            "host": table.host,
            "domain": table.domain,
            "sni_port": ports.get(BY_NAME),
            "ca": self.authority.pem.decode(),
            "specimens": [
                _entry(specimens.BY_NAME[name], ports[name], table.domain)
                for name in self.exhibits
                if name in ports
            ],
            "left_out": [{"name": name, "reason": why} for name, why in self.left_out.items()],
        }

    def lines(self) -> list[str]:
        """What people should know about it, a line each."""
        count = len(self.exhibits)
        found = [f"gallery: {count} specimen{'s' * (count != 1)}, {len(self.left_out)} left out"]
        return found + [f"gallery: left out: {name}: {why}" for name, why in self.left_out.items()]

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the CA's certificate, in hexadecimal."""
        return load_pem_x509_certificate(self.authority.pem).fingerprint(hashes.SHA256()).hex()

    def write_authority(self) -> None:
        """Write the CA's certificate where the configuration says, if it says so.

        :raises UnwritableError: it cannot be written.
        """
        path = self.table.ca
        if path is None:
            return
        try:
            make_directory(path.parent)
            with suppress(OSError):
                if path.read_bytes() == self.authority.pem:
                    return
            write_whole(path, self.authority.pem)
        except OSError as error:
            raise UnwritableError(shown(path), f"cannot be written: {error.strerror}") from None


def behaviour_of(specimen: Specimen) -> Behaviour:
    """How the server of *specimen* conducts itself."""
    return BEHAVIOURS[specimen.behaviour] if specimen.behaviour is not None else PLAIN


def _due(exhibit: ExhibitContext, time: datetime) -> bool:
    return exhibit.minted.until is not None and time >= exhibit.minted.until


def _entry(specimen: Specimen, port: int, domain: str) -> dict[str, Any]:
    return {
        "name": specimen.name,
        "port": port,
        "sni": f"{specimen.name}.{domain}",
        "defect": specimen.defect,
        "clause": specimen.clause,
        "must": str(specimen.must),
        "errors": dict(specimen.errors),
    }
