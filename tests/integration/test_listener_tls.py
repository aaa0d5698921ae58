"""Who gets in through TLS."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from config.section import TlsFiles
from tests.support.listener import arrivals, associate, closing, listener_settings, running, send
from tests.support.storage import make_certificates


def test_mutual_tls(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "certificates")
    tls = TlsFiles(certificate=made.server[0], key=made.server[1], authority=made.authority)
    settings = listener_settings(tmp_path, tls=tls, idle_timeout_s=5)
    trusting = ssl.create_default_context(cafile=str(made.authority))
    known = ssl.create_default_context(cafile=str(made.authority))
    known.load_cert_chain(*map(str, made.client))
    with running(settings) as listener:
        # a client that connects and says nothing must not keep others out
        with socket.create_connection(("127.0.0.1", listener.port)):
            association = associate(listener.port, tls_args=(known, "localhost"))
            assert send(association, 1, 2) == [0, 0]
            association.release()
        assert not associate(listener.port, tls_args=(trusting, "localhost")).is_established, "without a certificate"
        assert not associate(listener.port).is_established, "without TLS"
        assert closing(arrivals(settings)[0])["stored"] == 2
