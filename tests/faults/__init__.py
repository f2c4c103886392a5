"""Tests of `suite.faults`."""
