"""What an endpoint answers, other than the bytes it was sent: the `table` has every answer by its name.

`answer` is what answers have in common, on streams and over UDP; each answer has a file of its own.
"""
