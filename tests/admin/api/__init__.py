"""Tests of `suite.admin.api`."""
