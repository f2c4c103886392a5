"""Tests: pure, in memory, on real reactors, and end to end with clients that share no code with us."""
