"""Why a connection ended, or never began: the short list that logs and counters use."""

from enum import StrEnum


class Reason(StrEnum):
    """Placeholder until merged."""

    CLOSED = "closed"
    RESET = "reset"
    TRUNCATED = "truncated"
    TLS = "tls"
    HANDSHAKE = "handshake"
    PROXY = "proxy"
    IDLE = "idle"
    STALL = "stall"
    HALF_CLOSE = "half-close"
    LIFETIME = "lifetime"
    BYTES = "bytes"
    DRAIN = "drain"
    CONNECTIONS = "connections"
    PER_PEER = "per-peer"
    DENIED = "denied"
    DESCRIPTORS = "descriptors"
    ERROR = "error"
