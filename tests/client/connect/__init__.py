"""Tests of `suite.client.connect`."""
