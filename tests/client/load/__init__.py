"""Tests of `suite.client.load`."""
