"""Tests of `suite.engine`."""
