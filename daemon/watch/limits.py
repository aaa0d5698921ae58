"""How much of a drop is looked at and read: what people and programs drop is not trusted."""

from __future__ import annotations

from dataclasses import dataclass, field

from config.intake import WatchSettings
from conversion.media import ArchiveLimits

MIB = 1024**2


@dataclass(frozen=True, slots=True)
class DropLimits:
    """Limits of one drop.

    Attributes
    ----------
    instance_bytes
        Of one DICOM file, which is read whole.
    aligned_bytes
        Of one `.nii.gz`, which is read whole too.
    files
        Files of a drop, whatever they are.
    depth
        Folders within folders.
    archive
        Of a zip, after unpacking.
    """

    instance_bytes: int = 2048 * MIB
    aligned_bytes: int = 256 * MIB
    files: int = 100_000
    depth: int = 32
    archive: ArchiveLimits = field(default_factory=ArchiveLimits)

    @classmethod
    def of(cls, watch: WatchSettings) -> DropLimits:
        """The limits that the settings give."""
        return cls(
            instance_bytes=int(watch.max_instance_mib * MIB),
            aligned_bytes=int(watch.max_aligned_mib * MIB),
            files=watch.max_files,
            depth=watch.max_depth,
            archive=ArchiveLimits(
                files=watch.max_files,
                total_bytes=int(watch.max_zip_gib * 1024 * MIB),
                ratio=watch.max_zip_ratio,
            ),
        )


LIMITS = DropLimits()
"""Those of the settings' defaults."""
