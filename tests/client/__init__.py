"""Tests of `suite.client`."""
