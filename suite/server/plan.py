"""A configuration that has been read and checked in full, ready to be served."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from OpenSSL import SSL
from typing_extensions import override

from suite import certs, text
from suite.config import file as config
from suite.config.environment import NO_ENVIRONMENT, Environment
from suite.config.faults import Replay
from suite.config.workers import counted
from suite.endpoints import parser
from suite.endpoints.companions import parse_companions
from suite.endpoints.credentials import Credentials
from suite.endpoints.descriptions import OWNED, Description
from suite.endpoints.sites import site_files
from suite.errors import ConfigError, Mistakes, UnwritableError
from suite.faults.replay import Decisions, replaying
from suite.files import Stamp, stamp_of
from suite.server.announce import admin_line, faults_lines, listening_line
from suite.server.token import read_token
from suite.system import ProcessIdentity, UnknownIdentityError, identity

if TYPE_CHECKING:
    from suite.gallery.collection import Gallery


class Plan:
    """A configuration that has been read and checked in full.

    Making one needs no reactor, and may take long: it can run in a thread.

    :ivar descriptions: what is to be opened, in the order of the file.
    :ivar companions: the sockets to be opened for each companion, by its name: the control socket, and those
        of the admin interface.
    :ivar token: what allows changes over the admin interface's TCP sockets; None: nothing does.
    :ivar renewal: whether this is the configuration that is being served, with its certificates read again.
    :ivar stamps: the files of the certificates by path, each as it was when it was read.
    :ivar minted: the development certificates made on the way, if any were.
    :ivar gallery: the specimens of bad TLS; None: there are none.
    :ivar workers: how many processes serve it.
    :ivar warnings: what an operator should know, one line each, such as a certificate that expires within a
        week.
    :raises SuiteError: something in it is wrong; if several things are, all are named.
    """

    gallery: Gallery | None = None
    workers: int

    def __init__(
        self,
        file: Path,
        *,
        mint: bool,
        before: Plan | None = None,
        replay: Decisions | None = None,
        environment: Environment = NO_ENVIRONMENT,
        workers: int | None = None,
    ) -> None:
        """Read the configuration *file*.

        :param mint: make development certificates when the file names some in ``certs/`` beside it
            that do not exist; otherwise only note in `missing` that serving would.
        :param before: the plan that is being served, whose identities and contexts are used again where their
            files have not changed, so that sessions still resume; it is not modified.
        :param replay: the decisions of an earlier run, which connections get in place of the declared faults;
            default: those of *before*.
        :param environment: declares endpoints, too.
        :param workers: what the command line says of them; None: nothing.
        """
        mistakes = Mistakes()
        self.renewal = False
        self.replay: Decisions | None = replay
        if replay is None and before is not None:
            self.replay = before.replay
        self.environment = environment
        self._workers = workers
        settings = config.read(file, mistakes, environment)
        if workers is not None:
            settings = replace(settings, workers=workers)
        self._load(settings, mistakes, mint=mint, before=before)

    def read_again(self) -> Plan:
        """What its file says now.

        :raises SuiteError: that cannot be served.
        """
        # A file that has been there must not be lost, with all that it declares.
        environment = self.environment._replace(needs_file=self.config.has_file)
        return Plan(self.config.file, mint=True, before=self, environment=environment, workers=self._workers)

    def renewed(self) -> Plan:
        """The same configuration, with its certificates read again.

        :raises SuiteError: a certificate or key cannot be used.
        """
        plan = object.__new__(type(self))
        plan.renewal = True
        plan.replay = self.replay
        plan.environment = self.environment
        plan._workers = self._workers
        plan._load(self.config, Mistakes(), mint=True, before=self)
        return plan

    @classmethod
    def passed_on(
        cls, settings: config.Config, gallery: Gallery | None, before: Plan, *, renewal: bool
    ) -> Self:
        """The plan of another process of this suite; certificates and keys are read here.

        :param gallery: the gallery of that plan.
        :param before: the plan that is being served here.
        :param renewal: see `renewal`.
        :raises SuiteError: a certificate or key cannot be used.
        """
        plan = object.__new__(cls)
        plan.renewal = renewal
        plan.replay = before.replay
        plan.environment = before.environment
        plan._workers = before._workers
        plan.gallery = gallery
        plan._load(settings, Mistakes(), mint=True, before=before)
        return plan

    def _load(self, settings: config.Config, mistakes: Mistakes, *, mint: bool, before: Plan | None) -> None:
        self.config = settings
        # However many cores there are by now: the sockets are those of the start.
        same = before is not None and before.config.workers == settings.workers
        self.workers = before.workers if before is not None and same else counted(settings.workers)
        if settings.gallery is not None:
            with mistakes.noted():
                settings = self._open_gallery(before.gallery if before is not None else None)
        self.descriptions = parser.parse_all(settings, mistakes)
        self.companions = parse_companions(self.config, self.descriptions, mistakes)
        if self.workers > 1:
            self._check_workers(mistakes)
        self.minted: list[Path] = []
        self.missing: Path | None = None
        self.identity: ProcessIdentity | None = None
        self.credentials: Credentials = Credentials(
            self.config, serving=mint, before=before.credentials if before is not None else None
        )
        self.token: bytes | None = None
        admin = self.config.admin
        if admin is not None and admin.token_file is not None:
            with mistakes.noted():
                self.token = read_token(admin.token_file, self.config.file)
        self._remarks: list[str] = []
        if self.replay is not None:
            self._replay(self.replay)
        self._contexts: dict[str, SSL.Context | None] = {}
        with mistakes.noted():
            self.identity = self._identity()
        # Before they are read: what changes meanwhile will look changed.
        self.stamps = self._stamps()
        directory = self.config.directory / "certs"
        ours: list[Description] = []
        others: list[Description] = []
        minted = certs.minted_files(directory)
        for description in self.descriptions:
            (others if minted.isdisjoint(description.credentials) else ours).append(description)
        self._read_contexts(others, mistakes)
        due = None
        if ours:
            with certs.locked(directory):  # so that nobody mints there meanwhile
                due = certs.due(directory)
                if due is None:
                    self._read_contexts(ours, mistakes)
        # Nothing is made for a configuration that cannot be served.
        mistakes.raise_any()
        if due is not None and mint:
            self._mint(directory, due)
            self.stamps = self._stamps()
            with certs.locked(directory):
                self._read_contexts(ours, mistakes)
            mistakes.raise_any()
        elif due is not None:
            self.missing = directory
        if self.gallery is not None and mint:
            self.gallery.write_authority()
        self.credentials.files.settle()
        names = [description.endpoint.name for description in self.descriptions]
        self.contexts = [self._contexts[name] for name in names if name in self._contexts]

    def _check_workers(self, mistakes: Mistakes) -> None:
        """Note what only one process can serve."""
        if sys.platform != "linux":
            mistakes.note(
                ConfigError(
                    text.shown(self.config.file),
                    "workers",
                    f"{self.workers} processes take Linux; expected 1 on this system",
                )
            )
        for description in self.descriptions:
            if description.kind not in OWNED:
                problem = (
                    f"{description.kind}: opens its socket by itself, which {self.workers} workers cannot"
                    " share; expected workers = 1, or another endpoint"
                )
                mistakes.note(self.config.listen_error(description.endpoint, problem))

    def _open_gallery(self, before: Gallery | None) -> config.Config:
        """Make the gallery; return the configuration with its endpoints.

        :raises ConfigError: it cannot be served.
        """
        # Whoever has no gallery shall not wait for what makes one.
        from suite.gallery.collection import Gallery  # noqa: PLC0415
        from suite.gallery.places import with_gallery  # noqa: PLC0415

        if self.gallery is None:
            self.gallery = Gallery(self.config, before)
        return with_gallery(self.config, self.gallery.left_out)

    def _replay(self, decisions: Decisions) -> None:
        """Have the endpoints repeat *decisions*; what cannot be repeated is a warning."""
        names = {description.endpoint.name for description in self.descriptions}
        self._remarks += [
            f"the log to be replayed has decisions for endpoints.{name}, which is not in the configuration"
            for name in sorted(decisions.keys() - names)
        ]
        for index, description in enumerate(self.descriptions):
            endpoint = description.endpoint
            if not endpoint.faults.requested:
                faults = replaying(endpoint.faults, decisions.get(endpoint.name, Replay({}, {})))
                self.descriptions[index] = replace(description, endpoint=replace(endpoint, faults=faults))
            elif endpoint.name in decisions:
                self._remarks.append(
                    f"endpoints.{endpoint.name} does not repeat what the log has: clients choose its faults"
                )

    @property
    def warnings(self) -> list[str]:
        """What an operator should know, one line each."""
        return [*self._remarks, *self.credentials.warnings]

    def look_again(self) -> None:
        """Look at the files as the user whom this process has just become.

        What merely cannot be seen any more has not changed; what cannot be read is a warning.
        """
        self.stamps = self._stamps()
        files = [*([self.config.file] if self.config.has_file else []), *map(Path, sorted(self.stamps))]
        closed = [text.shown(path) for path in files if not os.access(path, os.R_OK)]
        if closed:
            more = f" and {len(closed) - 3} more" if len(closed) > 3 else ""
            self._remarks.append(
                f"{self.config.user} may not read {', '.join(closed[:3])}{more}: a reload that needs them"
                " fails, and what changes there takes a restart"
            )

    def _stamps(self) -> dict[str, Stamp]:
        named = {path for description in self.descriptions for path in description.credentials}
        found: set[str] = set()
        for directory in named:
            if os.path.isdir(directory):
                with suppress(OSError):  # whoever reads the certificates says so
                    found.update(map(str, site_files(Path(directory))))
        return {path: stamp_of(path) for path in named | found}

    def _read_contexts(self, descriptions: Iterable[Description], mistakes: Mistakes) -> None:
        for description in descriptions:
            with mistakes.noted():
                endpoint = description.endpoint
                self._contexts[endpoint.name] = (
                    self.gallery.context(endpoint.gallery)
                    if endpoint.gallery and self.gallery is not None
                    else self.credentials.context(description)
                )

    def _mint(self, directory: Path, due: str) -> None:
        """Make the development certificates that are *due*.

        :raises UnwritableError: they cannot be written, and there are none to go on with.
        """
        try:
            self.minted = certs.mint_due(directory)
        except UnwritableError as error:
            if not all(os.path.exists(directory / name) for name in certs.MINTED):
                raise
            self._remarks.append(f"{due}, and new certificates could not be made: {error}")
        else:
            if due not in ("missing", "incomplete") and self.minted:
                self._remarks.append(f"{due}; it has been made anew")

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
        found = [admin_line(description.address) for description in self.companions["admin"]]
        for description in self.descriptions:
            found.append(listening_line(description, description.address))
            found += faults_lines(description)
        if self.gallery is not None:
            found += self.gallery.lines()
        if self.missing is not None:
            found.append(f"serving will make development certificates in {text.shown(self.missing)}")
        found += [f"warning: {warning}" for warning in self.warnings]
        count = len(self.descriptions)
        workers = f", {self.workers} workers" if self.workers > 1 else ""
        found.append(f"{self.config.source}: {count} endpoint{'s' * (count > 1)}{workers}, no errors")
        return found


class FixedPlan(Plan):
    """A plan whose configuration is in no file: a reload makes only what has become too old anew.

    :param settings: the configuration.
    :raises SuiteError: it cannot be served.
    """

    def __init__(self, settings: config.Config) -> None:
        self.renewal = False
        self.replay = None
        self.environment = NO_ENVIRONMENT
        self._workers = None
        self._load(settings, Mistakes(), mint=True, before=None)

    @override
    def read_again(self) -> Plan:
        return self.renewed()
