"""From the descriptions of a configuration to OpenSSL contexts: every file read once, every mistake named.

Rules: nothing here needs a reactor, so all of it may run in any thread; endpoints with the same identity and
the same TLS settings share a context; what has not changed since the configuration before is used again; that
a key can sign a handshake is proved by one.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from cryptography.x509 import Certificate
from OpenSSL import SSL

from suite.config.file import Config
from suite.config.tls import TLS
from suite.endpoints.descriptions import DEFAULT_KEY, FILES, SSL_METHODS, Description
from suite.endpoints.keylog import VARIABLE, KeyLog, check_key_log
from suite.endpoints.sites import Sites, load_sites
from suite.endpoints.tls import choose_by_name, prove, server_context
from suite.errors import CertificateError, ConfigError, Mistakes
from suite.identities import Files, Identity, judge_dates
from suite.text import shown


@dataclass(frozen=True)
class _Wanted:
    """All that decides which context an endpoint gets; equal for endpoints that can share one."""

    tls: TLS
    key: Path | None
    certificate: Path | None
    chains: tuple[Path, ...]
    dh_parameters: Path | None
    directory: Path | None
    keylog: Path | None


class Credentials:
    """The OpenSSL contexts of a configuration.

    :param serving: whether connections will be accepted: only then is a key log opened.
    :param before: the credentials of the configuration before; they are not modified.
    :ivar files: the files that have been read.
    :ivar keylogs: the open key logs.
    :ivar warnings: what an operator should know, one line each.
    """

    def __init__(self, config: Config, *, serving: bool = True, before: Credentials | None = None) -> None:
        self.config = config
        self.files: Files = Files(before.files if before is not None else None)
        self.warnings: list[str] = []
        self._serving = serving
        self._wanted_by: dict[Hashable, _Wanted] = {}
        self._contexts: dict[_Wanted, SSL.Context] = {}
        self._identities: dict[_Wanted, tuple[Identity, ...]] = {}
        self.keylogs: dict[Path, KeyLog] = {}
        self._keylogs_before = before.keylogs if before is not None else {}

    def context(self, description: Description) -> SSL.Context | None:
        """The OpenSSL context for an ``ssl:`` description; None for any other.

        :raises ConfigError: a file that it names cannot be used.
        :raises MistakesError: several cannot.
        """
        if description.kind != "ssl":
            return None
        wanted = self._wanted(description)
        if wanted not in self._contexts:
            self._contexts[wanted] = self._load(description, wanted)
        return self._contexts[wanted]

    def identities(self, description: Description) -> tuple[Identity, ...]:
        """What an ``ssl:`` description presents to clients: the default first; none for any other."""
        if description.kind != "ssl":
            return ()
        return self._identities.get(self._wanted(description), ())

    def _wanted(self, description: Description) -> _Wanted:
        # Thousands of endpoints may say the same, and paths take time to make and to compare.
        said = (description.endpoint.tls, *map(description.arguments.get, ("sslmethod", *FILES)))
        wanted = self._wanted_by.get(said)
        if wanted is None:
            wanted = self._wanted_by[said] = self._read_wanted(description)
        return wanted

    def _read_wanted(self, description: Description) -> _Wanted:
        endpoint, tls = description.endpoint, description.endpoint.tls
        paths = {name: Path(description.arguments[name]) for name in FILES if name in description.arguments}
        version = SSL_METHODS[description.arguments.get("sslmethod", "TLS_METHOD")]
        if version is not None:
            if version < tls.minimum:
                raise self.config.listen_error(
                    endpoint,
                    f"sslmethod allows TLS {version} only; expected at least {tls.minimum}, the minimum",
                )
            tls = replace(tls, minimum=version, maximum=version)
        chains = tuple(path for path in (paths.get("extraCertChain"), tls.chain) if path is not None)
        named = os.environ.get(VARIABLE)
        keylog = tls.keylog or (Path(named) if named else None)
        return _Wanted(
            tls,
            paths.get("privateKey"),
            paths.get("certKey"),
            chains,
            paths.get("dhParameters"),
            paths.get("directory"),
            keylog,
        )

    def _load(self, description: Description, wanted: _Wanted) -> SSL.Context:
        endpoint = description.endpoint
        file = shown(self.config.file)
        keys = {shown(path): endpoint.tls_key(name) for name, path in wanted.tls.files().items()}
        if wanted.keylog is not None:
            keys[shown(wanted.keylog)] = endpoint.tls_key("keylog") if wanted.tls.keylog else VARIABLE
        self._check_default(description, wanted)
        mistakes = Mistakes()

        def located(error: CertificateError) -> ConfigError:
            key = keys.get(error.path)
            if key is None:
                return self.config.listen_error(endpoint, str(error))
            return ConfigError(file, key, str(error))

        def note(error: CertificateError) -> None:
            mistakes.note(located(error))

        for path in (wanted.certificate, *wanted.chains):
            if path is not None:
                try:
                    self.files.certificates(path)
                except CertificateError as error:
                    note(error)
        try:
            if wanted.tls.client_ca is not None:
                self.files.authorities(wanted.tls.client_ca)
        except CertificateError as error:
            note(error)
        try:
            if wanted.key is not None:
                self.files.key(wanted.key, wanted.tls.password_file)
        except CertificateError as error:
            note(error)
        mistakes.raise_any()
        try:
            context = self._make(wanted)
        except CertificateError as error:
            raise located(error) from error
        if wanted.keylog is not None:
            key = keys[shown(wanted.keylog)]
            self._warn(
                f"{key}: the secrets of TLS connections are written to {shown(wanted.keylog)};"
                " whoever reads it can decrypt them"
            )
        return context

    def _check_default(self, description: Description, wanted: _Wanted) -> None:
        """Say which parameters are missing, rather than that Twisted's default is."""
        key, listen = wanted.key, description.endpoint.listen
        if (
            key == self.config.directory / DEFAULT_KEY
            and DEFAULT_KEY not in listen
            and not os.path.exists(key)
        ):
            raise self.config.listen_error(
                description.endpoint,
                f"{shown(key)}: no such file, and no privateKey is given; expected"
                f" ssl:{description.arguments['port']}:privateKey=certs/server.key:certKey=certs/server.pem",
            )

    def _warn(self, line: str) -> None:
        if line not in self.warnings:
            self.warnings.append(line)

    # From what is wanted to a context.

    def _make(self, wanted: _Wanted) -> SSL.Context:
        tls = wanted.tls
        keylog = self._keylog(wanted.keylog) if wanted.keylog is not None else None
        if tls.client_ca is not None:
            self._judge(tls.client_ca, *self.files.authorities(tls.client_ca))
        if wanted.directory is None:
            # Without a directory, a description has both.
            certificate, key = cast(Path, wanted.certificate), cast(Path, wanted.key)
            identity = self.files.identity(certificate, key, wanted.chains, tls.password_file)
            self._judge(identity.path, identity.certificate, *identity.chain)
            self._identities[wanted] = (identity,)
            return self._one(wanted, identity, keylog)
        sites = load_sites(self.files, wanted.directory, wanted.chains, tls.password_file)
        for note in sites.notes:
            self._warn(note)
        for identity in sites.identities:
            self._judge(identity.path, identity.certificate, *identity.chain)
        self._identities[wanted] = (*sites.identities,)
        return self._many(wanted, sites, keylog)

    def _keylog(self, path: Path) -> KeyLog | None:
        if not self._serving:
            check_key_log(path)
            return None
        if path not in self.keylogs:
            before = self._keylogs_before.get(path)
            self.keylogs[path] = before if before is not None and before.in_place else KeyLog(path)
        return self.keylogs[path]

    def _dh_digest(self, path: Path | None) -> bytes | None:
        if path is None:
            return None
        if not os.path.exists(path):
            raise CertificateError(shown(path), "no such file; expected one with Diffie-Hellman parameters")
        return self.files.digest(path)

    def _content(self, wanted: _Wanted, *identities: Identity, keylog: KeyLog | None) -> tuple[Hashable, ...]:
        """All that decides what is in a context, by content instead of by path."""
        tls = wanted.tls
        return (
            replace(tls, client_ca=None, chain=None, password_file=None, keylog=None),
            tls.client_ca is not None and self.files.digest(tls.client_ca),
            self._dh_digest(wanted.dh_parameters),
            keylog,
            tuple(
                (
                    identity.certificate,
                    identity.chain,
                    identity.path,
                    # Its own certificate names a key, but not its type (RSA or RSA-PSS).
                    identity.openssl_key,
                )
                for identity in identities
            ),
        )

    def _one(self, wanted: _Wanted, identity: Identity, keylog: KeyLog | None) -> SSL.Context:
        content = self._content(wanted, identity, keylog=keylog)
        return self.files.once(("context", *content), lambda: self._fresh(wanted, identity, keylog))

    def _many(self, wanted: _Wanted, sites: Sites, keylog: KeyLog | None) -> SSL.Context:
        names = sorted((name, identity.path) for name, identity in sites.by_name.items())
        content = self._content(wanted, *sites.identities, keylog=keylog)

        def make() -> SSL.Context:
            contexts = {id(each): self._fresh(wanted, each, keylog) for each in sites.identities}
            return choose_by_name(
                contexts[id(sites.default)],
                {name: contexts[id(each)] for name, each in sites.by_name.items()},
            )

        return self.files.once(("contexts", *content, sites.default.path, *names), make)

    def _fresh(self, wanted: _Wanted, identity: Identity, keylog: KeyLog | None) -> SSL.Context:
        """A context that nobody shares yet, whose key has been proved."""
        tls, dh = wanted.tls, wanted.dh_parameters
        bare = replace(tls, client_ca=None, alpn=())
        prove(server_context(identity, bare, session_id="", dh_parameters=dh), tls, identity.path)
        # Sessions resume where clients are judged in the same way.
        settings = repr(self._content(wanted, keylog=None))
        authorities = self.files.authorities(tls.client_ca) if tls.client_ca is not None else None
        context = server_context(
            identity, tls, session_id=settings, dh_parameters=dh, authorities=authorities
        )
        if keylog is not None:
            context.set_keylog_callback(keylog.write)
        return context

    def _judge(self, path: Path, *certificates: Certificate) -> None:
        """Warn of certificates that are not valid, or not for long."""
        for number, certificate in enumerate(certificates):
            problem = judge_dates(certificate)
            if problem is not None:
                which = f"certificate {number + 1}" if number else "certificate"
                self._warn(f"{shown(path)}: {which} {problem}")
