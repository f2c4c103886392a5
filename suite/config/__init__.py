"""The configuration file, and the values it holds. Plain Python.

- `document`: its text; `file`: what it says; `values`: how each value is read
- `limits`, `tls`: what an endpoint is limited and set to
"""
