"""TLS alerts: their numbers, and the names that the standards give them."""

from __future__ import annotations

from typing import Final

from suite.engine.tls import CLOSE_NOTIFY

#: Alerts by number (RFC 8446, appendix B.2, and RFC 5246 for those of TLS 1.2).
ALERTS: Final = {
    10: "unexpected_message",
    20: "bad_record_mac",
    21: "decryption_failed",
    22: "record_overflow",
    30: "decompression_failure",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    111: "certificate_unobtainable",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}

#: Alerts that do not report an error.
HARMLESS: Final = {CLOSE_NOTIFY, 90, 100}

CERTIFICATE_REQUIRED: Final = 116
