"""Tests of `suite.client.dial`."""
