"""Every kind of our DICOM objects, every way that it can leave: nothing is lost, whatever transfer syntax the archive takes."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from config.delivery import DicomwebSettings
from foundation.dicom_client.storage import StoreResult, send_files
from outputs.destinations import DestinationContext
from outputs.destinations.dicomweb import DicomwebDestination
from outputs.dicom.object_kinds import ObjectKind
from outputs.rendering import render_case
from tests.integration.test_outputs_storage import ADDRESS
from tests.support.orthanc import Orthanc, dicomweb_plugin
from tests.support.results import clock, make_case, volumes
from tests.support.storage import storage_scp


def values(ds: Dataset) -> dict[str, Any]:
    """Everything in it. Pixel Data is always OW in Implicit VR (PS3.5 A.1), so that its VR is left out."""
    elements = ds.to_json_dict()
    elements.get("7FE00010", {}).pop("vr", None)
    return elements


@pytest.mark.parametrize("taken", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_pacs_that_takes_one_transfer_syntax_gets_the_same_objects(tmp_path: Path, taken: str) -> None:
    case = make_case(tmp_path)
    render_case(case, *volumes())
    paths = sorted(case.folder.dicom.glob("*.dcm"))
    sent = [dcmread(path) for path in paths]
    assert len({ds.SOPClassUID for ds in sent}) == len(ObjectKind)
    with storage_scp(classes=tuple({ds.SOPClassUID for ds in sent}), syntaxes=(taken,)) as pacs:
        outcomes = send_files(paths, port=pacs.port, **ADDRESS)
    assert {outcome.result for outcome in outcomes} == {StoreResult.ACCEPTED}
    assert set(pacs.syntaxes.values()) == {str(taken)}
    for ds in sent:
        data = pacs.received[str(ds.SOPInstanceUID)]
        got = read_dataset(BytesIO(data), taken == ImplicitVRLittleEndian, is_little_endian=True)
        assert values(got) == values(ds), ds.SOPClassUID.name


def test_a_web_archive_gets_every_kind(tool: Callable[[str], str], tmp_path: Path) -> None:
    case = make_case(tmp_path / "case")
    render_case(case, *volumes())
    orthanc = Orthanc(tool("Orthanc"), tmp_path / "orthanc", plugins=(dicomweb_plugin(),))
    try:
        url = f"http://127.0.0.1:{orthanc.http}/dicom-web"
        kinds = tuple(str(kind) for kind in ObjectKind)
        to = DicomwebDestination(
            DicomwebSettings.model_validate({"name": "web", "url": url, "objects": kinds}), DestinationContext(clock=clock)
        )
        to.deliver(case)
        found = {i["MainDicomTags"]["SOPInstanceUID"] for i in orthanc.find("Instance")}
    finally:
        orthanc.stop()
    assert found == {str(dcmread(p).SOPInstanceUID) for p in case.folder.dicom.glob("*.dcm")}
