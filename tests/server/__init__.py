"""Tests of `suite.server`."""
