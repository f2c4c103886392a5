"""Metrics for Prometheus, and for whatever else reads its formats.

- `families`: every metric: its name, type, labels and meaning, and where its values come from
- `observed`: what is read of the suite, once for a scrape
- `exposition`: the text that a scrape gets
- `routes`: ``/metrics``
- `otlp`: the same over OpenTelemetry's protocol
"""
