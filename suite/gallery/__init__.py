"""What does bad TLS look like? Specimens with one defect each, always fresh.

- `specimens`: all of them, by name; `errors`: what TLS stacks say of them
"""
