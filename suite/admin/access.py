"""Who may ask the admin interface for what.

Rules: whoever can connect to its UNIX socket may do everything, as the mode of the file says. Over TCP a
change takes the token, and from another machine everything does but health and metrics. A name that is not
known leads here by mistake, or on purpose (DNS rebinding), and is refused; so is a page of another site.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection
from ipaddress import ip_address
from typing import Final

from suite.admin.exchange import Problem
from suite.config.limits import LOOPBACK, address_of, within

#: A host, and the port that may follow it.
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+(?:%[\w.~%-]+)?\]|[^:\[\]]*)(:[0-9]{0,5})?", re.IGNORECASE)


def host_of(header: str) -> str:
    """The host in the *header* ``Host``, without its port, in lower case; empty if there is none.

    :raises Problem: it is not a host.
    """
    found = _HOST.fullmatch(header.strip())
    if found is None:
        raise Problem(400, f"Host: {header!r} is not a host; expected one such as localhost:9901")
    return found[1].strip("[]").lower().rstrip(".")


def check_host(header: str | None, allowed: Collection[str]) -> None:
    """Check that a client has asked for this host, by an address or by a name that is *allowed*.

    A page of another site that has its own name lead here has the browser send that name.

    :raises Problem: it has asked for another.
    """
    host = host_of(header or "")
    if not host or host == "localhost" or host.endswith(".localhost") or host in allowed:
        return
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        raise Problem(
            421, f"Host: {host!r} is not served here; expected an address, localhost, or one of admin.hosts"
        ) from None


def check_origin(origin: str | None, site: str | None, host: str | None) -> None:
    """Check that no page of another site has sent a request.

    :param origin: the header ``Origin``, if there is one.
    :param site: the header ``Sec-Fetch-Site``, likewise.
    :param host: the header ``Host``.
    :raises Problem: one has.
    """
    if site is not None and site not in ("same-origin", "none"):
        raise Problem(403, "a page of another site has sent this request; expected a page of this one")
    if origin is not None and origin.lower() != f"http://{host or ''}".lower():
        raise Problem(403, f"Origin: {origin!r} is another site; expected http://{host or ''}")


def is_near(host: str | None) -> bool:
    """Whether a client at *host* is on this machine."""
    return host is None or within(address_of(host), LOOPBACK)


def has_token(authorization: str | None, token: bytes | None) -> bool:
    """Whether the header ``Authorization`` carries *token* (RFC 6750).

    :raises Problem: it carries another one.
    """
    if authorization is None:
        return False
    scheme, _, given = authorization.strip().partition(" ")
    if scheme.lower() != "bearer":
        raise Problem(401, f"Authorization: {scheme!r} is unknown; expected Bearer, and the token", CHALLENGE)
    if token is None:
        raise Problem(403, "no token is valid here; expected admin.token_file in the configuration")
    if not hmac.compare_digest(given.strip().encode(), token):
        raise Problem(401, "the token is not the one in admin.token_file", CHALLENGE)
    return True


#: What asks for a token.
CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="echo-suite"'}


def missing_token(token: bytes | None, what: str) -> Problem:
    """The problem that *what* takes a token, which was not given."""
    if token is None:
        return Problem(
            403,
            f"{what} takes a token, and there is none: expected admin.token_file in the configuration,"
            " or the admin interface's UNIX socket",
        )
    return Problem(
        401, f"{what} takes the token in admin.token_file; expected Authorization: Bearer", CHALLENGE
    )
