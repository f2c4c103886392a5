"""Endpoints in environment variables: ``ECHO_SUITE_TCP=tcp:1234`` declares the endpoint ``tcp``.

Rules: a variable says where an endpoint listens, and nothing else; where the file has an endpoint of that
name, the rest of what it says there holds. A variable that is empty is not set, as in compose files. What
Kubernetes sets for a Service that is called ``echo-suite`` is none of ours. The environment is that of the
start: a reload reads the file again, and finds the same variables. Next to nothing is imported, because
whoever serves imports this first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from suite.errors import ConfigError

PREFIX: Final = "ECHO_SUITE_"

#: The path of the configuration, where no ``--config`` says it; no endpoint.
CONFIG: Final = "ECHO_SUITE_CONFIG"

#: Options that somebody might expect to have variables, too.
_OPTIONS: Final = frozenset({"log", "log-file", "log-level", "reactor", "replay", "workers"})

#: What can name an endpoint, with ``-`` for ``_`` (see `suite.config.values.NAME`).
_NAME: Final = re.compile(r"[a-z0-9-]{1,64}")

#: What is set for a Service of Kubernetes', if this is: its name in capitals, and one of `_OF_SERVICE`.
_SERVICE: Final = "_SERVICE_HOST"
_OF_SERVICE: Final = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)|_PORT(_\d+_[A-Z]+(_(PROTO|PORT|ADDR))?)?")


class Variable(NamedTuple):
    """An environment variable that says where an endpoint listens.

    :ivar variable: its name, such as ``ECHO_SUITE_MY_TCP``.
    :ivar name: the name of the endpoint, such as ``my-tcp``.
    :ivar listen: the description.
    """

    variable: str
    name: str
    listen: str

    def error(self, problem: str) -> ConfigError:
        """The error that says *problem* of the variable."""
        return ConfigError(self.variable, None, problem)

    def means(self, name: str) -> bool:
        """Whether *name*, in a file, is that of its endpoint."""
        return canonical(name) == self.name


class Environment(NamedTuple):
    """What the environment says of a configuration.

    :ivar variables: those that declare endpoints, by name.
    :ivar needs_file: whether there must be a file, too.
    """

    variables: tuple[Variable, ...] = ()
    needs_file: bool = True


#: Nothing is declared but in the file.
NO_ENVIRONMENT: Final = Environment()


def canonical(name: str) -> str:
    """The name of an endpoint as that of a variable means it: a variable has capitals, and no ``-``."""
    return name.lower().replace("_", "-")


def read_variables(environ: Mapping[str, str]) -> tuple[Variable, ...]:
    """The variables in *environ* that declare endpoints, sorted by name.

    :raises ConfigError: one of them cannot name an endpoint, or two name the same.
    """
    services = [name.removesuffix(_SERVICE) for name in environ if name.endswith(_SERVICE)]
    found: dict[str, Variable] = {}
    for variable in sorted(environ):
        listen = environ[variable]
        if not variable.startswith(PREFIX) or variable == CONFIG or not listen:
            continue
        if any(
            variable.startswith(service) and _OF_SERVICE.fullmatch(variable[len(service) :])
            for service in services
        ):
            continue
        declared = Variable(variable, canonical(variable.removeprefix(PREFIX)), listen)
        if not _NAME.fullmatch(declared.name):
            raise declared.error(
                f"cannot name an endpoint; expected 1 to 64 letters, digits or '_' after {PREFIX}"
            )
        if declared.name in _OPTIONS and ":" not in listen:
            raise declared.error(
                f"{listen!r} is not an endpoint description, which a variable of this kind has; did you mean"
                f" --{declared.name} {listen}?"
            )
        other = found.setdefault(declared.name, declared)
        if other is not declared:
            raise declared.error(
                f"names the endpoint {declared.name}, as {other.variable} does; expected one of the two"
            )
    return tuple(found.values())
