"""Tests of the page, also in a real browser."""
