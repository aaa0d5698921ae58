"""A Storage SCP to send to, in threads of the test, and throw-away certificates."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from foundation.dicom_client.association import TlsFiles

NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
STORED = (SecondaryCaptureImageStorage, CTImageStorage)


@dataclass
class Pacs:
    """What the SCP got."""

    port: int = 0
    received: dict[str, bytes] = field(default_factory=dict)
    """SOP Instance UID -> data set as it came over the wire."""
    syntaxes: dict[str, str] = field(default_factory=dict)
    count: int = 0
    associations: int = 0
    no_delay: list[bool] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def storage_scp(
    status: Callable[[int], int] = lambda number: 0x0000,
    *,
    classes: tuple[Any, ...] = STORED,
    syntaxes: tuple[Any, ...] = NATIVE,
    called: str | None = None,
    calling: tuple[str, ...] = (),
    context: ssl.SSLContext | None = None,
    abort_at: int | None = None,
    most: int = 10,
    verification: bool = True,
) -> Iterator[Pacs]:
    """A PACS stand-in on a free loopback port; `status` gives the answer to the n-th C-STORE, from 1 on."""
    pacs = Pacs()

    def on_store(event: Any) -> int:
        with pacs.lock:
            pacs.count += 1
            number = pacs.count
        if number == abort_at:
            event.assoc.abort()
            return 0xA700
        answer = status(number)
        if answer in (0x0000, 0xB000):
            uid = str(event.request.AffectedSOPInstanceUID)
            pacs.received[uid] = event.request.DataSet.getvalue()
            pacs.syntaxes[uid] = str(event.context.transfer_syntax)
        return answer

    def on_association(event: Any) -> None:
        pacs.associations += 1

    ae = AE(ae_title=called or "PACS")
    ae.require_called_aet = called is not None
    ae.require_calling_aet = list(calling)
    ae.maximum_associations = most
    for sop_class in classes:
        ae.add_supported_context(sop_class, list(syntaxes))
    if verification:
        ae.add_supported_context(Verification)
    server = ae.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, on_store), (evt.EVT_ACCEPTED, on_association)],
        ssl_context=context,
    )
    assert server is not None
    pacs.port = server.socket.getsockname()[1]
    try:
        yield pacs
    finally:
        ae.shutdown()


@dataclass(frozen=True)
class Certificates:
    """One authority, and a certificate for each side."""

    authority: Path
    server: tuple[Path, Path]
    client: tuple[Path, Path]

    @property
    def tls(self) -> TlsFiles:
        return TlsFiles(certificate=self.client[0], key=self.client[1], authority=self.authority)

    def server_context(self, *, mutual: bool = True) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.authority))
        context.load_cert_chain(*map(str, self.server))
        if mutual:
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def make_certificates(folder: Path) -> Certificates:
    """Throw-away certificates for localhost, made with the openssl command."""
    folder.mkdir(parents=True, exist_ok=True)

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test authority")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "client"):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        ca = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", *ca, "-out", f"{name}.pem")
    return Certificates(
        folder / "ca.pem", (folder / "server.pem", folder / "server.key"), (folder / "client.pem", folder / "client.key")
    )
