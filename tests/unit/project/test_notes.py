"""What can be done about a refusal, and what was done to a series: from the conversion to every place where people look."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import pytest
from PIL import ImageDraw

import worker.stages.prepare as stage
from cli.case_tables import notes_of
from config.settings import Settings
from corewatch.casefolder import CaseFolder
from corewatch.errors import NotAnalysed
from corewatch.reasons import Reason
from corewatch.result import Result
from corewatch.states import CaseState
from corewatch.volumes import AlignedHead, ScannerVolume
from outputs.mail.case_mail import facts
from outputs.pages.summary_page import render_not_analysed, render_summary
from tests.support.results import make_case, not_analysed, volumes
from tests.support_conversion import head, image, stack, write
from worker.foreground import run_case
from worker.stages.case_files import PreparedRecord

ZS = [7.0 * n for n in range(14)]
NOTES = ("1 of 15 instances set aside. It is a localizer.", "Gantry tilted by 18.5°; slices moved back.")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Every text that is drawn, with its bounding box."""
    words: list[tuple[str, tuple[float, float, float, float]]] = []
    draw_text = ImageDraw.ImageDraw.text

    def record(self: ImageDraw.ImageDraw, xy: tuple[float, float], text: str, **how: object) -> None:
        box = self.textbbox(xy, text, font=how["font"], anchor=how.get("anchor"))
        words.append((text, box))
        draw_text(self, xy, text, **how)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", record)
    return words


def test_every_reason_says_what_to_do() -> None:
    remedies = [reason.remedy for reason in Reason]
    assert all(remedy.endswith(".") and len(remedy) > 15 for remedy in remedies)
    assert NotAnalysed(Reason.MISSING_SLICES, "Where.").remedy == Reason.MISSING_SLICES.remedy


def test_result_json_holds_remedy_and_notes() -> None:
    refused = Result("k3v9x2mqpt", CaseState.NOT_ANALYSED, "1.2", reason=Reason.MIXED_SERIES, notes=NOTES).to_json()
    assert (refused["remedy"], refused["notes"]) == (Reason.MIXED_SERIES.remedy, list(NOTES))
    done = Result("k3v9x2mqpt", CaseState.DELIVERED, "1.2").to_json()
    assert (done["remedy"], done["notes"]) == (None, [])


def test_the_page_of_a_refusal_says_what_to_do_and_holds_long_reasons(tmp_path: Path, drawn: list) -> None:
    case = not_analysed(make_case(tmp_path))
    detail = "Steps of up to 20.00 mm where 10.00 mm are usual: between -24.0 mm and 24.0 mm (LPS z). " * 8
    for words in (case.result.detail, detail):
        drawn.clear()
        long = dataclasses.replace(case, result=dataclasses.replace(case.result, detail=words))
        render_not_analysed(long)
        said = " ".join(text for text, _ in drawn)
        assert long.remedy is not None
        assert long.remedy in said
        assert words.strip() in said
        (received,) = (box[1] for text, box in drawn if text == "Received")
        assert max(box[3] for text, box in drawn if text in "Read the images without this analysis.") < received


@pytest.mark.parametrize("notes", [(), NOTES[:1], NOTES])
def test_the_summary_page_shows_the_first_note(tmp_path: Path, drawn: list, notes: tuple[str, ...]) -> None:
    case = make_case(tmp_path)
    case = dataclasses.replace(case, result=dataclasses.replace(case.result, notes=notes))
    render_summary(case, *volumes())
    shown = [(text, box) for text, box in drawn if text.startswith("1 of 15")]
    assert [text for text, _ in shown] == ([] if not notes else [notes[0] + (" (1 more in result.json)" if len(notes) > 1 else "")])
    label = max(box[1] for text, box in drawn if text.startswith("RESEARCH"))
    facts_of_case = [box for text, box in drawn if text in ("Model", "Alignment", "Received", "Analysed", "Note")]
    assert len(facts_of_case) == (5 if notes else 4)
    assert all(box[3] - box[1] > 14 for _, box in shown), "large enough to be read"
    boxes = sorted(facts_of_case, key=lambda box: box[1])
    assert all(upper[3] <= lower[1] for upper, lower in itertools.pairwise(boxes))
    assert boxes[-1][3] < label


def test_a_mail_has_both(tmp_path: Path) -> None:
    case = not_analysed(make_case(tmp_path))
    case = dataclasses.replace(case, result=dataclasses.replace(case.result, notes=NOTES))
    rows = facts(case)
    assert ("What to do", case.remedy) in rows
    assert [words for name, words in rows if name == "Note"] == list(NOTES)


def test_notes_are_kept_from_stage_to_stage(tmp_path: Path) -> None:
    folder = CaseFolder(tmp_path)
    PreparedRecord("1.2", (), None, None, None, 0.5, 1.5, notes=NOTES).write(folder)
    assert PreparedRecord.read(folder).notes == NOTES
    data = json.loads(folder.prepared.read_text())
    del data["notes"]  # as an earlier version wrote it
    folder.prepared.write_text(json.dumps(data))
    assert PreparedRecord.read(folder).notes == ()


def test_a_case_shows_the_notes_of_its_result(tmp_path: Path) -> None:
    assert notes_of(tmp_path) == []
    (tmp_path / "result.json").write_text(Result("k3v9x2mqpt", CaseState.DELIVERED, "1.2", notes=NOTES).dumps())
    assert notes_of(tmp_path) == list(NOTES)
    for broken in ("[]", "{", '{"notes": 3}', "{}"):
        (tmp_path / "result.json").write_text(broken)
        assert notes_of(tmp_path) == []


def with_scout(folder: Path, **attributes: object) -> list[Path]:
    scout = image(head(30, 60), (0, 0, 0), 99, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], ContrastBolusAgent="IODINE")
    return write(folder, [scout, *stack(ZS, **attributes)])


def aligned(_: ScannerVolume) -> AlignedHead:
    return AlignedHead(volumes()[0], None, None)


def test_what_was_set_aside_reaches_the_prepared_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "align", aligned)
    progress: list[str] = []
    source = stage.DicomSource(tuple(with_scout(tmp_path / "in")))
    done = stage.prepare(source, CaseFolder(tmp_path / "out"), minimum_score=None, progress=progress.append)
    assert done.notes == NOTES[:1]
    assert PreparedRecord.read(CaseFolder(tmp_path / "out")).notes == NOTES[:1]
    assert NOTES[0] in progress


def test_a_head_that_is_not_aligned_lists_what_was_done_to_it(tmp_path: Path) -> None:
    source = stage.DicomSource(tuple(with_scout(tmp_path / "in")))
    with pytest.raises(NotAnalysed) as caught:
        stage.prepare(source, CaseFolder(tmp_path / "out"), minimum_score=None)
    assert caught.value.reason is Reason.NOT_A_HEAD
    assert caught.value.detail.endswith(NOTES[0])


def test_steps_wider_than_a_planned_block_are_not_prepared(tmp_path: Path) -> None:
    paths = write(tmp_path / "in", stack([10.0 * n for n in range(8)]))
    with pytest.raises(NotAnalysed) as caught:
        stage.prepare(stage.DicomSource(tuple(paths)), CaseFolder(tmp_path / "out"), minimum_score=None)
    assert caught.value.reason is Reason.SLICES_TOO_THICK


def test_a_run_that_ends_without_a_result_says_what_to_do(tmp_path: Path) -> None:
    write(tmp_path / "in", [image(head(), (0, 0, 0), 1, Modality="MR")])
    run_case(tmp_path / "in", tmp_path / "out", Settings())
    said = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (said["reason"], said["remedy"], said["notes"]) == ("not_ct", Reason.NOT_CT.remedy, [])
