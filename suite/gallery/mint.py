"""Minting: the certificates of one specimen, in memory, at the time that the caller gives.

Pure: no Twisted, no clock, no files; what is random are keys and serial numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from suite.gallery.authority import Authority
from suite.gallery.chains import MAKERS
from suite.gallery.order import Minted, Order, Unmintable

__all__ = ["Authority", "Minted", "Unmintable", "mint"]


def mint(certificate: str, authority: Authority, names: Sequence[str], now: datetime) -> Minted:
    """The chain, key and staple of a specimen.

    :param certificate: which: a specimen's `certificate`.
    :param names: the host names and IP addresses by which clients reach it, at least one host name among
        them; a certificate whose defect is its names has others, made from these.
    :param now: what time it is, with its time zone; not before *authority* was made.
    :raises Unmintable: the libraries here cannot make it; the argument says why.
    """
    return MAKERS[certificate](Order(authority, names, now))
