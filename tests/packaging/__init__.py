"""What users get: the wheel, in an environment of its own."""
