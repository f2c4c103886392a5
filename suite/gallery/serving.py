"""What a running endpoint of the gallery needs: its factory and its transport."""

from __future__ import annotations

from suite.echo import EchoFactory
from suite.gallery.exhibit import ExhibitFactory
from suite.gallery.index import Exhibition, IndexFactory
from suite.gallery.places import INDEX
from suite.gallery.transport import GalleryTLS
from suite.guard.streams import Guard

__all__ = ["GalleryTLS", "make_factory"]


def make_factory(what: str, guard: Guard, exhibition: Exhibition) -> EchoFactory:
    """The factory of the endpoint that serves *what* of the gallery."""
    return IndexFactory(guard, exhibition) if what == INDEX else ExhibitFactory(guard)
