"""Tests of `suite.endpoints`."""
