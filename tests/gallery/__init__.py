"""The gallery of bad TLS."""
