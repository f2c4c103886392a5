"""Tests of `suite.config`."""
