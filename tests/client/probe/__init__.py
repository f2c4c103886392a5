"""Tests of `suite.client.probe`."""
