"""Tests of `suite.guard`."""
