"""Tests of the command line and of the other doors."""
