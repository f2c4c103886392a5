"""The suite as a process, checked by clients that share no code with it."""
