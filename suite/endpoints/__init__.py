"""Where an endpoint listens.

- `descriptions`: checked endpoint descriptions
- `parser`: parses their text; `meant`: what was probably meant by a wrong one; `members`: looks up users and
  groups
- `companions`: the descriptions of the control socket and of the admin interface
- `sockets`: the listening sockets, opened or adopted once; `inherited`: those of the parent process
- `listener`: puts what answers on them
- `credentials`: from descriptions to OpenSSL contexts; `tls`: one context; `sites`: certificates by name;
  `keylog`: the secrets of connections, for debugging
- `proxy_protocol`: PROXY headers
"""
