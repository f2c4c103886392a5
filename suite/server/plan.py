"""A configuration that has been read and checked in full, ready to be served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from OpenSSL import SSL

from suite import certs, text
from suite.config import file as config
from suite.endpoints import parser, tls
from suite.endpoints.descriptions import Description
from suite.errors import ConfigError, Mistakes
from suite.server.announce import listening_line
from suite.system import ProcessIdentity, UnknownIdentityError, identity, stamp_of


class Plan:
    """A configuration that has been read and checked in full.

    :ivar descriptions: what is to be opened, in the order of the file.
    :ivar stamps: the files of the certificates, each as it was when it was read.
    :ivar minted: the development certificates made on the way, if any were.
    :raises SuiteError: something in it is wrong; if several things are, all are named.
    """

    def __init__(self, file: Path, *, mint: bool) -> None:
        """Read the configuration *file*.

        :param mint: make development certificates when the file names some in ``certs/`` beside it
            that do not exist; otherwise only note in `missing` that serving would.
        """
        mistakes = Mistakes()
        self._load(config.read(file, mistakes), mistakes, mint=mint)

    def renewed(self) -> Plan:
        """The same configuration, with its certificates read again.

        :raises SuiteError: a certificate or key cannot be used.
        """
        plan = object.__new__(Plan)
        plan._load(self.config, Mistakes(), mint=True)
        return plan

    def _load(self, settings: config.Config, mistakes: Mistakes, *, mint: bool) -> None:
        self.config = settings
        self.descriptions = parser.parse_all(self.config, mistakes)
        self.minted: list[Path] = []
        self.missing: Path | None = None
        self.identity: ProcessIdentity | None = None
        with mistakes.noted():
            self.identity = self._identity()
        # Before they are read: what changes meanwhile will look changed.
        self.stamps = {
            path: stamp_of(path) for description in self.descriptions for path in description.credentials()
        }
        directory = self.config.directory / "certs"
        contexts: dict[str, SSL.Context | None] = {}
        later: list[Description] = []
        for description in self.descriptions:
            if certs.would_mint(directory, description.credentials()):
                later.append(description)
                continue
            with mistakes.noted():
                contexts[description.endpoint.name] = tls.load_context(self.config, description)
        # Nothing is made for a configuration that cannot be served.
        mistakes.raise_any()
        if later and mint:
            self.minted = certs.mint(directory)
            self.stamps = {path: stamp_of(path) for path in self.stamps}
            for description in later:
                with mistakes.noted():
                    contexts[description.endpoint.name] = tls.load_context(self.config, description)
            mistakes.raise_any()
        elif later:
            self.missing = directory
        names = [description.endpoint.name for description in self.descriptions]
        self.contexts = [contexts[name] for name in names if name in contexts]

    def _identity(self) -> ProcessIdentity | None:
        """The user and group to switch to once everything is open."""
        user, group = self.config.user, self.config.group
        if user is None and group is None:
            return None
        try:
            return identity(user, group)
        except UnknownIdentityError as error:
            raise ConfigError(text.shown(self.config.file), error.key, error.problem) from None

    def planned(self) -> Iterator[tuple[Description, SSL.Context | None]]:
        """Everything to be opened, with the OpenSSL contexts of those that have one."""
        return zip(self.descriptions, self.contexts, strict=True)

    def lines(self) -> list[str]:
        """What serving would do, for people."""
        found = [listening_line(description, description.address) for description in self.descriptions]
        if self.missing is not None:
            found.append(f"serving will make development certificates in {text.shown(self.missing)}")
        count = len(self.descriptions)
        found.append(f"{text.shown(self.config.file)}: {count} endpoint{'s' * (count > 1)}, no errors")
        return found
