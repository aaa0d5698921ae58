"""Query SCU (C-FIND, Study Root, PS3.4 Annex C): studies, their series, and the number of instances of a series."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from corewatch.errors import OperatorNeeded, RetryLater
from foundation.dicom_client.association import PeerAddress, associated

MOST_ANSWERS = 10_000
"""Matches of one query; a PACS that sends more ignores the query keys."""

_LONGEST_LINE = 64

_FIND = StudyRootQueryRetrieveInformationModelFind


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """A series as a PACS describes it. `instances` is None if it does not return the number."""

    study_uid: str
    series_uid: str
    modality: str
    description: str
    instances: int | None


def find_studies(peer: PeerAddress, *, study_uid: str = "", accession: str = "") -> list[str]:
    """Study Instance UIDs that match, each once. At least one of `study_uid` and `accession` must not be empty.

    Matches that differ in a key are dropped: a PACS that does not support a key treats it as a wildcard (PS3.4 C.2.2.1.3), and
    returns studies of other patients.

    Raises
    ------
    RetryLater
        The PACS could not be reached, is busy, or did not answer.
    OperatorNeeded
        It rejects the association or the query.
    """
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = study_uid
    query.AccessionNumber = accession
    wanted = {"StudyInstanceUID": study_uid.strip(), "AccessionNumber": accession.strip()}
    if not any(wanted.values()):
        raise ValueError("neither a Study Instance UID nor an accession number is given")
    return list(
        dict.fromkeys(
            str(answer.StudyInstanceUID)
            for answer in _find(peer, query)
            if answer.get("StudyInstanceUID")
            and all(str(answer.get(key) or "").strip() == value for key, value in wanted.items() if value)
        )
    )


def find_series(peer: PeerAddress, study_uid: str, series_uid: str = "") -> list[FoundSeries]:
    """The series of a study, or one of them; raises as `find_studies`."""
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID = study_uid
    query.SeriesInstanceUID = series_uid
    query.Modality = query.SeriesDescription = ""
    query.NumberOfSeriesRelatedInstances = None
    return [
        FoundSeries(
            study_uid,
            str(answer.SeriesInstanceUID),
            _line(answer.get("Modality")),
            _line(answer.get("SeriesDescription")),
            _count(answer),
        )
        for answer in _find(peer, query)
        if answer.get("SeriesInstanceUID") and (not series_uid or answer.SeriesInstanceUID == series_uid)
    ]


def _line(value: object) -> str:
    """A value of a match as one line for a terminal: no control characters, at most the length of an LO (PS3.5 6.2)."""
    return "".join(c if c.isprintable() else " " for c in str(value or ""))[:_LONGEST_LINE].strip()


def _count(answer: Dataset) -> int | None:
    try:
        count = int(answer.NumberOfSeriesRelatedInstances)
    except (AttributeError, TypeError, ValueError):
        return None
    return count if count > 0 else None


def _find(peer: PeerAddress, query: Dataset) -> Iterator[Dataset]:
    answers: list[Dataset] = []
    context = build_context(_FIND, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    with associated(peer, [context]) as association:
        try:
            for status, answer in association.send_c_find(query, _FIND):
                if "Status" not in status:
                    raise RetryLater(
                        f"{peer} broke off or did not answer the query within {peer.timeout_s:g} s",
                        f"look at its log, and let our AE title {peer.calling_ae!r} query it",
                    )
                if status.Status in {0xFF00, 0xFF01}:
                    if answer is not None:
                        answers.append(answer)
                    if len(answers) > MOST_ANSWERS:
                        raise OperatorNeeded(f"{peer} answers with more than {MOST_ANSWERS} matches", "ask its operator")
                elif status.Status != 0x0000:
                    raise _refusal(peer, status.Status)
        except RuntimeError:
            raise RetryLater(f"{peer} ended the association before the query", "look at its log") from None
    yield from answers


def _refusal(peer: PeerAddress, status: int) -> RetryLater | OperatorNeeded:
    words = f"{peer} refused the query with status 0x{status:04X}"
    if status in {0xA700, 0x0110, 0x0213}:
        return RetryLater(words, "look at its load")
    return OperatorNeeded(words, f"look at its log, and let our AE title {peer.calling_ae!r} query it")
