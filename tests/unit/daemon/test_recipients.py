"""Recipients files in a drop and beside it, and the addresses that they may name."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.delivery import DeliverSettings, EmailSettings
from config.intake import WatchedFolder, WatchSettings
from config.settings import Settings
from daemon.watch.inbox import UNFINISHED_SETTLE_S
from daemon.watch.recipients import MAX_RECIPIENTS, allowed_recipients, is_recipients, read_recipients, side_car_of
from tests.support.watched_inbox import SETTLE_S, STAMP, WatchedInbox, image

WARD = "ward@hospital.example"


@pytest.fixture
def watched(tmp_path: Path) -> WatchedInbox:
    return WatchedInbox(tmp_path)


def zipped(path: Path, *numbers: int) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number in numbers:
            archive.writestr(str(number), image(number))


# the file -------------------------------------------------------------------------------------------------------------


def test_only_addresses_of_allowed_recipients_are_used() -> None:
    lines = "a@hospital.example\nb@evil.example\nc@sub.hospital.example\nd@HOSPITAL.example\nnobody\n# e@x.example\n"
    read = read_recipients(lines.encode(), ["hospital.example"])
    assert read.addresses == ("a@hospital.example", "d@HOSPITAL.example")
    assert len(read.problems) == 2
    assert read.problems[0].startswith("1 of its lines")
    assert read.problems[1].startswith("2 of its addresses")
    assert "evil" not in repr(read.problems), "an address does not reach notes and logs"


@pytest.mark.parametrize(
    "line",
    [
        "a@hospital.example, b@hospital.example",
        "a@hospital.example\rBcc: b@hospital.example",
        "<a@hospital.example>",
        '"a b"@hospital.example',
        "a@hospital.example@evil.example",
        "a@hospital.example;b",
        "a@[127.0.0.1]",
        "@hospital.example",
        "a\u2028@hospital.example",
    ],
)
def test_malformed_addresses_are_not_used(line: str) -> None:
    read = read_recipients(line.encode(), ["hospital.example"])
    assert set(read.addresses) <= {"a@hospital.example"}, "a line break of any kind ends a line, and nothing else does"
    assert read.problems


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda t: t.encode()))
def test_any_bytes_give_addresses_of_allowed_recipients_only(data: bytes) -> None:
    read = read_recipients(data + b"\nx@evil.example\ny@ok.example", ["ok.example"])
    assert all(a.count("@") == 1 and a.endswith("@ok.example") and a.isprintable() and " " not in a for a in read.addresses)
    assert read.problems


def test_the_number_of_recipients_is_limited() -> None:
    many = "\n".join(f"a{n}@ok.example" for n in range(MAX_RECIPIENTS + 5))
    read = read_recipients(many.encode(), ["ok.example"])
    assert len(read.addresses) == MAX_RECIPIENTS
    assert read.problems == (f"Only its first {MAX_RECIPIENTS} addresses are used.",)


def test_addresses_of_the_settings_are_allowed_but_not_their_domains(tmp_path: Path) -> None:
    email = {"host": "h", "from": "Corewatch <c@sender.example>", "to": ["a@Stroke.example"], "operators": ["o@it.example"]}
    settings = Settings(
        data_dir=tmp_path,
        watch=WatchSettings(folders=(WatchedFolder(path=tmp_path, email=(WARD,)),), recipient_domains=("partner.example",)),
        deliver=DeliverSettings(email=EmailSettings.model_validate(email)),
    )
    assert allowed_recipients(settings) == {"c@sender.example", "a@stroke.example", "o@it.example", WARD, "partner.example"}
    named = "A@stroke.example\nb@stroke.example\nanyone@partner.example\nc@sub.partner.example"
    assert read_recipients(named.encode(), allowed_recipients(settings)).addresses == ("A@stroke.example", "anyone@partner.example")
    assert allowed_recipients(Settings(data_dir=tmp_path)) == frozenset(), "nobody is mailed to where no domain is known"


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("head.zip.email.txt", "head.zip"),
        ("HEAD.ZIP.EMAIL.TXT", "HEAD.ZIP"),
        ("email.txt", None),
        (".email.txt", None),
        ("a.txt", None),
    ],
)
def test_names(name: str, owner: str | None) -> None:
    assert side_car_of(name) == owner
    assert is_recipients(name) == name.lower().endswith("email.txt")


# drops ----------------------------------------------------------------------------------------------------------------


def test_among_loose_files_it_counts_wherever_its_name_sorts(watched: WatchedInbox) -> None:
    (watched.path / "a.dcm").write_bytes(image(1))
    (watched.path / "email.txt").write_text("neuro@hospital.example")
    watched.settle()
    (arrival,) = watched.arrivals()
    assert arrival["email"] == [WARD, "neuro@hospital.example"]
    assert (watched.names(), watched.rejected) == ([], [])


@pytest.mark.parametrize("kind", ["zip", "folder", "file"])
def test_beside_its_drop(watched: WatchedInbox, kind: str) -> None:
    drop = watched.path / {"zip": "head.zip", "folder": "head", "file": "head.dcm"}[kind]
    if kind == "zip":
        zipped(drop, 1)
    elif kind == "folder":
        drop.mkdir()
        (drop / "1").write_bytes(image(1))
    else:
        drop.write_bytes(image(1))
    (watched.path / f"{drop.name}.email.txt").write_text("neuro@hospital.example\nx@evil.example")
    watched.settle()
    (arrival,) = watched.arrivals()
    assert (arrival["files"], arrival["email"]) == ([image(1)], [WARD, "neuro@hospital.example"])
    assert watched.rejected == []
    car = f"{STAMP}{drop.name}.email.txt"
    assert watched.names("processed") == [STAMP + drop.name, car, f"{car}.reason.txt"]
    assert "1 of its addresses" in (watched.path / "processed" / f"{car}.reason.txt").read_text()


def test_a_side_car_belongs_to_its_drop_alone(watched: WatchedInbox) -> None:
    zipped(watched.path / "a.zip", 1)
    zipped(watched.path / "b.zip", 2)
    (watched.path / "b.zip.email.txt").write_text("neuro@hospital.example")
    watched.settle()
    assert {a["files"][0]: len(a["email"]) for a in watched.arrivals()} == {image(1): 1, image(2): 2}


def test_the_drop_waits_for_one_that_is_still_written(watched: WatchedInbox) -> None:
    zipped(watched.path / "a.zip", 1)
    watched.poll()
    (watched.path / "a.zip.email.txt").write_text("neuro@")
    watched.poll(SETTLE_S - 0.5)
    (watched.path / "a.zip.email.txt").write_text("neuro@hospital.example")
    watched.poll(1.0)
    assert watched.arrivals() == []
    watched.poll(SETTLE_S)
    assert "neuro@hospital.example" in watched.arrivals()[0]["email"]


def test_a_recipients_file_without_its_drop_is_answered(watched: WatchedInbox) -> None:
    (watched.path / "gone.zip.email.txt").write_text("neuro@hospital.example")
    watched.settle()
    watched.poll(UNFINISHED_SETTLE_S)
    assert len(watched.rejected) == 1
    assert watched.names() == []
