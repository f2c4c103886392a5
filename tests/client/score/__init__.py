"""Tests of the score of TLS clients."""
