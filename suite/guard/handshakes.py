"""How TLS handshakes ended: what was agreed on, or in a word why they failed."""

from __future__ import annotations

from typing import NamedTuple


class Handshake(NamedTuple):
    """What a TLS handshake has agreed on, as far as it is counted.

    :ivar version: ``TLSv1.3``, as OpenSSL names it.
    :ivar cipher: the cipher suite, as OpenSSL names it.
    :ivar resumed: whether it has resumed an earlier session (RFC 8446, section 2.2).
    """

    version: str
    cipher: str
    resumed: bool
