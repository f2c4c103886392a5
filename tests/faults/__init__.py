"""Faults, one file for each of theirs."""
