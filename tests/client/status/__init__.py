"""How a suite is shown on a terminal."""
