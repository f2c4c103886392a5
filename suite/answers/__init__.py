"""What an endpoint answers, other than the bytes it was sent.

- `table`: every answer by its name; `answer`: what they have in common, on streams and over UDP
- `discard`, `chargen`; `once`: answers that are made in a moment, which are `daytime`, `seconds` and `qotd`
- `report`: what a peer has sent. Its parts: `tls_report`, `proxy_report`, `ip_report`, `process_report`,
  `host_report`
"""
