"""The configuration file, and the values it holds. Plain Python.

- `document`: its text; `file`: what it says; `values`: how each value is read
- `environment`: endpoints in environment variables
- `limits`, `tls`: what an endpoint is limited and set to
- `faults`: how it misbehaves; `fault_tables`, `fault_text`, `fault_values`, `fault_quantities`: reading that
- `profiles`: links by name, as faults
- `workers`: how many processes serve
- `gallery`, `admin`: where bad TLS is served, and where a suite shows what it does
"""
