"""Tests of `suite.logs`."""
