"""Settings of the way in: the listener and the watched folders."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from config.section import AeTitle, Domain, EmailAddress, Port, Section, TlsFiles


class Peer(Section):
    """A system that may send to us."""

    ae_title: AeTitle
    host: str
    port: Port | None = None
    """Where its own storage SCP listens. Needed to answer a peer that asks for storage commitment."""


class ListenerSettings(Section):
    """The Storage SCP."""

    ae_title: AeTitle = "COREWATCH"
    """Name under which senders call us."""
    host: str = "0.0.0.0"
    port: Port = 11112
    processes: int = Field(1, ge=1, le=64)
    """Processes that share the port; more than one for many associations at once."""
    peers: tuple[Peer, ...] = ()
    """Who may send. Programs on this machine (loopback) always may, under any AE title; empty: nobody else."""
    tls: TlsFiles | None = None
    """TLS 1.2 or later with client certificates; null: plain."""
    max_associations: int = Field(32, ge=1)
    """Associations at the same time, shared among the processes; one more is asked to come again."""
    max_associations_per_peer: int | None = Field(16, ge=1)
    """How many of them one address may have, so that it leaves room for others; null: all. Shared among the processes too."""
    max_instances_per_s_per_peer: float | None = Field(None, gt=0)
    """Images a second that one address may send to each process: its answers are delayed, nothing is refused. Null: no limit."""
    max_instance_mib: int = Field(4096, ge=1)
    """A larger data set is passed over and answered with 0xA702. Memory does not grow with it: images are written as they come."""
    idle_timeout_s: float = Field(60.0, gt=0)
    """An association without traffic for so long is ended, so that a dead peer does not hold a series open."""
    max_pdu_bytes: int = Field(262_144, ge=4096)
    reserve_gib: float = Field(2.0, ge=0)
    """Below this much free disk a C-STORE is answered with 0xA700 (out of resources)."""


class WatchedFolder(Section):
    """A folder that people or programs drop files into."""

    path: Path
    email: tuple[EmailAddress, ...] = ()
    """Who gets the results of what is dropped here, besides the general list."""


class WatchSettings(Section):
    """The watch folders."""

    folders: tuple[WatchedFolder, ...] = (WatchedFolder(path=Path("./inbox")),)
    polling: Literal["auto", "always", "never"] = "auto"
    """Look for changes instead of waiting for file events; `auto`: on network file systems."""
    settle_s: float = Field(2.0, ge=0)
    """A file counts as written when size and time of change have stood still for so long."""
    rescan_s: float = Field(5.0, gt=0)
    """File events are only hints: the folders are read anew this often."""
    incomplete_s: float = Field(600.0, ge=0)
    """A zip or an image without its end, or a CD of which files are missing that its DICOMDIR names, may still be on its way: it is
    waited for as long as this after its last change."""
    recipient_domains: tuple[Domain, ...] = ()
    """Domains that a recipients file in a drop (`email.txt`) may name, besides those of the addresses in these settings."""
    max_instance_mib: float = Field(2048, gt=0)
    """Largest DICOM file that is read; a slice has half a MiB, a multi-frame series of thousands less than this."""
    max_aligned_mib: float = Field(256, gt=0)
    """Largest `.nii.gz` that is read; a head on the network's grid has 28 MiB at most (float64)."""
    max_files: int = Field(100_000, ge=1)
    """Most files of one drop, a zip's included."""
    max_depth: int = Field(32, ge=1)
    """Most folders within folders; what lies deeper is left out."""
    max_zip_gib: float = Field(16, gt=0)
    """Most that a zip may hold after unpacking. Nothing is unpacked to the disk; it is read file by file."""
    max_zip_ratio: float = Field(200, gt=1)
    """Most that a zip may unpack to, in sizes of its own. CT compresses to a half or a third."""
