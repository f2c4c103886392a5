"""Who needs no logging context."""

from zope.interface import Interface


class IQuiet(Interface):
    """A protocol whose log entries say by themselves which connection they are about.

    Twisted sets up a logging context (the transport's ``logPrefix``) around every event, which costs
    more than reading a small message. Around the events of these, the engine does not.
    """
