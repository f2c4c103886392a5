"""What does bad TLS look like? Specimens with one defect each, always fresh.

- `specimens`: all of them, by name; `errors`: what TLS stacks say of them
- `mint`: the certificates of one; `authority`: the CA behind them; `order`, `chains`: how each is made
- `resign`, `weak`: what cryptography refuses to sign, and keys that it refuses to make

These are pure, without Twisted. How they are served:

- `collection`: all of them, as they are served; `places`: on which endpoints
- `contexts`: their OpenSSL contexts; `behaviours`: what is wrong with the server itself
- `legacy`, `legacy_ciphers`: what tlslite-ng speaks instead
- `transport`: the TLS transport; `exhibit`: what it answers; `index`: the page; `http`: for both
- `serving`: what the server asks for
"""
