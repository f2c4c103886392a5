"""The configuration file, and the values it holds. Plain Python.

- `file`: reads it
- `limits`, `tls`: what an endpoint is limited and set to
"""
