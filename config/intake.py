"""Settings of the ways that images arrive: the DICOM listener and the watch folders."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from config.section import AeTitle, Domain, EmailAddress, Port, Section, TlsFiles


class Peer(Section):
    """A system that may send images, such as a PACS or a scanner."""

    ae_title: AeTitle
    host: str
    port: Port | None = None
    """Port of the peer's own SCP. Needed to answer its storage commitment requests."""


class ListenerSettings(Section):
    """The DICOM listener (storage SCP)."""

    ae_title: AeTitle = "COREWATCH"
    """AE title that senders call."""
    host: str = "0.0.0.0"
    """Address to listen on; `::` listens on IPv6 and IPv4."""
    port: Port = 11112
    """Port to listen on."""
    processes: int = Field(1, ge=1, le=64)
    """Number of processes that share the port; more than one helps with many concurrent associations."""
    peers: tuple[Peer, ...] = ()
    """Systems that may send. Programs on this host (loopback) always may, with any AE title."""
    tls: TlsFiles | None = None
    """TLS 1.2 or later with client certificates; null: unencrypted."""
    max_associations: int = Field(32, ge=1)
    """Concurrent associations of all processes together; a further one is rejected as transient (local limit exceeded)."""
    max_associations_per_peer: int | None = Field(16, ge=1)
    """Concurrent associations of one address, so that it leaves room for others; null: no limit per address. Divided among the
    processes too."""
    max_instances_per_s_per_peer: float | None = Field(None, gt=0)
    """Instances per second that one address may send to each process. The listener delays its answers and refuses nothing. Null: no
    limit."""
    max_instance_mib: int = Field(4096, ge=1)
    """Largest data set in MiB. A larger one is not stored and is answered with 0xA702. Memory use does not depend on this."""
    idle_timeout_s: float = Field(60.0, gt=0)
    """An association without traffic is ended after this many seconds, so that a dead peer does not keep a series open."""
    max_pdu_bytes: int = Field(262_144, ge=4096)
    """Maximum PDU length that the listener proposes."""
    reserve_gib: float = Field(2.0, ge=0)
    """Free disk in GiB below which a C-STORE is answered with 0xA700 (out of resources)."""


class WatchedFolder(Section):
    """A folder into which people or programs drop files."""

    path: Path
    """The folder; missing ones are made."""
    email: tuple[EmailAddress, ...] = ()
    """Recipients of the results of these drops, besides the general list."""


class WatchSettings(Section):
    """The watch folders: files dropped there are analysed like images received by the listener."""

    folders: tuple[WatchedFolder, ...] = (WatchedFolder(path=Path("./inbox")),)
    polling: Literal["auto", "always", "never"] = "auto"
    """Whether to poll instead of waiting for file events; `auto`: poll network file systems."""
    settle_s: float = Field(2.0, ge=0)
    """A file counts as complete when its size and modification time have not changed for this many seconds."""
    rescan_s: float = Field(5.0, gt=0)
    """Seconds between two scans of the folders, since file events get lost."""
    incomplete_s: float = Field(600.0, ge=0)
    """Seconds to wait after the last change for the rest of an incomplete drop: a truncated zip or image, or a CD without some of
    the files that its DICOMDIR names."""
    partial_s: float = Field(60.0, ge=0)
    """Seconds to wait after the last change for the rest of a head series that lacks slices by its own headers: fewer images than
    they announce, a gap, or too few to cover a head. Its copy has probably paused."""
    recipient_domains: tuple[Domain, ...] = ()
    """Mail domains that a recipients file in a drop (`email.txt`) may name, besides the addresses that these settings contain. Name
    your own domain here, never one of a public mail provider."""
    max_instance_mib: float = Field(2048, gt=0)
    """Largest DICOM file in MiB. A slice has half a MiB, a multi-frame series of thousands of slices less than the default."""
    max_aligned_mib: float = Field(256, gt=0)
    """Largest `.nii.gz` in MiB. A head on the network's grid has at most 28 MiB (float64)."""
    max_files: int = Field(100_000, ge=1)
    """Largest number of files in one drop, including those in a zip."""
    max_depth: int = Field(32, ge=1)
    """Deepest level of nested folders; deeper files are left out."""
    max_zip_gib: float = Field(16, gt=0)
    """Largest unpacked size of a zip in GiB. Nothing is unpacked to the disk; it is read file by file."""
    max_zip_ratio: float = Field(200, gt=1)
    """Largest ratio of a zip's unpacked to its packed size. CT compresses to a half or a third."""
