"""Tests of `suite.testing` and of the pytest plugin."""
