"""What is taken over from the source's header, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRBigEndian

from corewatch.errors import OperatorNeeded
from outputs.source_header import REQUIRED_EVEN_EMPTY, copy_source, keep_bytes, named_fields, read_header
from tests.support.results import PATIENT_ID, PATIENT_NAME, write_header


def raw_bytes(path: Path, keyword: str) -> bytes:
    element = dcmread(path).get_item(keyword)
    assert element is not None
    return bytes(element.value or b"")


def through_a_file(header: Path, tmp_path: Path) -> Path:
    """Copy the source's attributes into a new object and write it."""
    target = Dataset()
    copy_source(read_header(header), target)
    target.SOPClassUID, target.SOPInstanceUID = CTImageStorage, "1.2.3.4"
    keep_bytes(target)
    target.file_meta = FileMetaDataset()
    target.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    path = tmp_path / "copy.dcm"
    target.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("implicit", [False, True])
def test_text_is_copied_as_bytes(tmp_path: Path, implicit: bool) -> None:
    header = write_header(tmp_path / "h.dcm", implicit=implicit)
    copy = through_a_file(header, tmp_path)
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDescription", "StudyTime"):
        assert raw_bytes(copy, keyword) == raw_bytes(header, keyword)
    assert str(dcmread(copy).PatientName) == PATIENT_NAME
    assert dcmread(copy).SpecificCharacterSet == "ISO_IR 100"


@pytest.mark.filterwarnings("ignore:Unknown encoding", "ignore:Invalid value for VR CS")
@pytest.mark.parametrize("declared", [None, "ISO_IR 100", "ISO_IR 192", "ISO_IR 13", "no such set"])
@pytest.mark.parametrize("name", [b"M\xfcller^J\xf6rg", b"\xce\xe2\xe0\xed\xee\xe2", b"A^B"])
def test_a_name_outside_its_declared_character_set_survives(declared: str | None, name: bytes, tmp_path: Path) -> None:
    """Decoding would spoil it, and the PACS would see another patient."""
    header = write_header(
        tmp_path / "h.dcm", PatientName="X" * len(name), SpecificCharacterSet="ISO_IR 100", StudyDescription="CTA"
    )
    placed = header.read_bytes().replace(b"X" * len(name), name)
    header.write_bytes(placed.replace(b"ISO_IR 100", declared.encode()[:10].ljust(10)) if declared else placed)
    copy = through_a_file(header, tmp_path)
    assert raw_bytes(copy, "PatientName").rstrip() == name


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 192", "王^小东"),
        ("ISO_IR 144", "Иванов^Пётр"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    ],
)
def test_names_of_the_world(tmp_path: Path, charset: str | list[str], name: str) -> None:
    header = write_header(tmp_path / "h.dcm", SpecificCharacterSet=charset, PatientName=name, StudyDescription="CTA")
    copy = through_a_file(header, tmp_path)
    assert raw_bytes(copy, "PatientName") == raw_bytes(header, "PatientName")
    assert str(dcmread(copy).PatientName) == name


def test_big_endian_source(tmp_path: Path) -> None:
    ds = dcmread(write_header(tmp_path / "h.dcm"))
    fresh = Dataset()
    fresh.update({element.tag: element for element in ds})
    fresh.file_meta = ds.file_meta
    fresh.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    big = tmp_path / "big.dcm"
    fresh.save_as(big, enforce_file_format=True)
    copy = dcmread(through_a_file(big, tmp_path))
    assert str(copy.PatientName) == PATIENT_NAME
    assert copy.StudyDate == "20261120"


def test_sequences_are_copied(tmp_path: Path) -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "CTAHEAD", "99LOCAL", "CTA Schädel"
    header = write_header(tmp_path / "h.dcm", ProcedureCodeSequence=Sequence([code]))
    copy = dcmread(through_a_file(header, tmp_path))
    assert copy.ProcedureCodeSequence[0].CodeMeaning == "CTA Schädel"


def test_text_padded_with_nul_is_padded_with_space(tmp_path: Path) -> None:
    """PS3.5 6.2 pads UI alone with NUL; some modalities pad text with it, and validators and databases stumble over it."""
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "CTA", "99LOCAL", "CTA\0"
    header = write_header(tmp_path / "h.dcm", StudyDescription="CTA\0", ProcedureCodeSequence=Sequence([code]))
    copy = through_a_file(header, tmp_path)
    assert raw_bytes(copy, "StudyDescription") == b"CTA "
    assert dcmread(copy).ProcedureCodeSequence[0].CodeMeaning == "CTA"
    assert raw_bytes(copy, "StudyInstanceUID") == raw_bytes(header, "StudyInstanceUID")


def test_what_is_not_of_patient_or_study_stays_behind(tmp_path: Path) -> None:
    header = write_header(tmp_path / "h.dcm", InstitutionName="St. Elsewhere", OperatorsName="Doe^John", PatientComments="x")
    copy = dcmread(through_a_file(header, tmp_path))
    assert "InstitutionName" not in copy
    assert "OperatorsName" not in copy
    assert copy.PatientComments == "x"


def test_type_2_attributes_are_there_even_when_the_source_lacks_them(tmp_path: Path) -> None:
    header = write_header(tmp_path / "h.dcm", AccessionNumber=None, PatientBirthDate=None, ReferringPhysicianName=None)
    copy = dcmread(through_a_file(header, tmp_path))
    assert all(keyword in copy for keyword in REQUIRED_EVEN_EMPTY)
    assert not copy.AccessionNumber


def test_lossy_stays_lossy(tmp_path: Path) -> None:
    header = write_header(
        tmp_path / "h.dcm", LossyImageCompression="01", LossyImageCompressionRatio="9.5", LossyImageCompressionMethod="ISO_10918_1"
    )
    copy = dcmread(through_a_file(header, tmp_path))
    assert (copy.LossyImageCompression, copy.LossyImageCompressionRatio) == ("01", 9.5)
    plain = write_header(tmp_path / "p.dcm", LossyImageCompression="00")
    assert "LossyImageCompression" not in dcmread(through_a_file(plain, tmp_path))


def test_a_missing_or_damaged_header_is_for_the_operator(tmp_path: Path) -> None:
    with pytest.raises(OperatorNeeded, match="cannot be read"):
        read_header(tmp_path / "absent.dcm")
    (tmp_path / "empty.dcm").write_bytes(b"")
    with pytest.raises(OperatorNeeded):
        read_header(tmp_path / "empty.dcm")
    with pytest.raises(OperatorNeeded, match="Study Instance UID"):
        read_header(write_header(tmp_path / "h.dcm", StudyInstanceUID=None))


def test_named_fields_only(tmp_path: Path) -> None:
    source = read_header(write_header(tmp_path / "h.dcm", PatientBirthDate=""))
    assert named_fields(source, ("PatientID", "PatientBirthDate", "NoSuchKeyword")) == (("PatientID", PATIENT_ID),)
    assert named_fields(source, ()) == ()
