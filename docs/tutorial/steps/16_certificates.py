"""Make an authority, and certificates that it has signed for a server and for a client."""

import os

import trustme

os.umask(0o077)  # a key is for its owner alone

authority = trustme.CA(organization_name="Tutorial")
authority.cert_pem.write_to_path("authority.pem")

server = authority.issue_cert("localhost", "127.0.0.1")
server.private_key_and_cert_chain_pem.write_to_path("server.pem")

client = authority.issue_cert("maria@example.com")
client.private_key_and_cert_chain_pem.write_to_path("client.pem")
