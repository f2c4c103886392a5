"""Tests of `suite.admin`."""
