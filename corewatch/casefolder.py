"""File names in a case's folder. The stages read and write the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

PARTIAL_SUFFIX: Final = ".partial"
"""Suffix of a file that a stage is still writing. After a crash such a file can be deleted."""


@dataclass(frozen=True, slots=True)
class CaseFolder:
    """The folder of one case, `data_dir/cases/<case_id>` or the `--out` of `corewatch run`."""

    path: Path

    @property
    def aligned(self) -> Path:
        """Head on the network's grid, HU 0-100, uint8."""
        return self.path / "aligned.nii.gz"

    @property
    def aligned_sidecar(self) -> Path:
        """Description of `aligned` and the matrices between it and the scanner (JSON)."""
        return self.path / "aligned.json"

    @property
    def core_map(self) -> Path:
        """Core map on the network's grid, 0-100, uint8."""
        return self.path / "core_map.nii.gz"

    @property
    def core_map_native(self) -> Path:
        """Core map on the scanner's grid, 0-100, uint8."""
        return self.path / "core_map_native.nii.gz"

    @property
    def summary(self) -> Path:
        """Summary page."""
        return self.path / "summary.png"

    @property
    def qc(self) -> Path:
        """Alignment page for visual quality control; written only on request (`--qc`)."""
        return self.path / "qc.png"

    @property
    def result(self) -> Path:
        """The result as JSON (see `corewatch.result`)."""
        return self.path / "result.json"

    @property
    def dicom(self) -> Path:
        """Folder of the DICOM objects that are sent to the PACS."""
        return self.path / "dicom"

    @property
    def report(self) -> Path:
        """The structured report among them (TID 1500)."""
        return self.dicom / "sr-001.dcm"

    @property
    def prepared(self) -> Path:
        """Output of `prepare` for the later stages (JSON)."""
        return self.path / "prepared.json"

    @property
    def source_header(self) -> Path:
        """Header of the series' first instance without pixel data (DICOM). Holds patient data: never leaves the folder."""
        return self.path / "source_header.dcm"

    @property
    def finding(self) -> Path:
        """Output of `detect` for the later stages (JSON)."""
        return self.path / "finding.json"

    @property
    def settings(self) -> Path:
        """The settings in effect when the case was analysed, secrets left out (JSON)."""
        return self.path / "settings.json"
