"""Metrics for Prometheus, and for whatever else reads its formats.

- `families`: every metric; `family`: what one is
- `of_suite`, `of_endpoints`, `of_workers`: where values come from
- `observed`: what is read of the suite, once for a scrape
- `exposition`: the text that a scrape gets
- `routes`: ``/metrics``
- `otlp`: the same over OpenTelemetry's protocol
"""
