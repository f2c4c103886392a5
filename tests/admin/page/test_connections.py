"""The connections of one endpoint on its page, as a suite that runs shows them."""

from __future__ import annotations

from pathlib import Path

import trustme

from tests.admin.asking_http import ask
from tests.running import running

CONFIG = """
[endpoints.tls]
listen = "ssl:0:privateKey=certs/server.key:certKey=certs/server.pem"
tls = { client_ca = "clients.pem" }
[admin]
listen = "unix:admin.sock"
"""


def test_a_client_certificate_is_named(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    with running(tmp_path, CONFIG) as suite:
        context = suite.client_context()
        authority.issue_cert("client.example", common_name="client.example").configure_cert(context)
        with (
            suite.connect("tls") as sock,
            context.wrap_socket(sock, server_hostname="localhost") as client,
        ):
            client.sendall(b"hola")
            assert client.recv(4) == b"hola"
            (found,) = ask(suite.admin[0], "/api/v1/connections").json["connections"]
            certificate = found["tls"]["client_certificate"]
            assert "client.example" in certificate
            page = ask(suite.admin[0], "/?endpoint=tls")
            assert page.status == 200, page.text
            assert f"client {certificate}" in page.text
