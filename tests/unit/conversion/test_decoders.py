"""Every codec, on small code streams: identical values, any sign, and damage that neither hangs nor asks for all memory."""

from __future__ import annotations

import base64
import struct
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate

from conversion.codestreams import jpeg_2000_size, jpeg_size
from conversion.decoders import NATIVE, DecodingError, PixelFormat, decode_encapsulated, decoders, name_of

FORMAT = PixelFormat(32, 32, 16, 16, 15, False, 1, "MONOCHROME2", None)

HTJ2K = (
    "/0//UQApQAAAAAAgAAAAIAAAAAAAAAAAAAAAIAAAACAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQkJCQkJCQkJCQiIiI"
    "/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAnQAAf+TwAAmUfYFB3QAwAATQAASwAARgNr+Agd0AO4Ah3QAAGMAwAAVEAAE0AAEgABs2f4AYFQA"
    "gLYAAJQA/QezAMAAFdAABWQAAVICAjSYKgv7QLJohTWXAAKArQ37QOSPrk83AHtf/kG9Dgy2AMAAF08AAF0kAAF0QEhUBUADYTuKIHAeYLRcAfA8oCgAoPZi"
    "dby3OGJL533IuEQYejqRAcKAwSF589QwaSFxIQEREBER8GBJCCyAowwf1usl4H4lVJWSASAK0emBARk0akuDEi8uy5XjCfBgDWlp0V1CqprMp1gJvwDAAC96"
    "gABe9QAAvoPVBNoigGlI2AaQ2AOEKAKfQPAJAlSCCE8AyAsQMIZAngHSuQDEVMQjPUiIChjbBgSuDQAQMVCZACiNAIBBQyfosuvL+9zt99/RsKHa8k+3H72+"
    "T7Pg99ySXH1jtzlZtoXZhKv99Cq+emhXznZtmK4mulHShXp3vX3tAxEjCBQTCJaNy8pyWYqFSVqYJAHQGgAA2wYAZJiQyDBJpGTNqaSaWQUQiIkSgIkiQBoG"
    "IBCkwQAEgv57XL7+wndTqX1dQ2Lk4LO/tM3afnp+TQg9OLNB6N7JF/tTvHSdh1Bc+RqMPFlumQdbj1vlQq8mN1c+aZabj1AEm+aoyOuMRGmNHKUkQ2mkoixa"
    "0itKk9kRU9o2Sdo2yXRmJCw3mQqlaYWKk4kKlxFLLDrpmcSiyc4krp2F1jWL2iAJJ9dRPqxP5Tuvu977z7A+n92b9Wnam63JK48kZVs9Lkj93TNbDd55FJI7"
    "eiZepTqG27qe77lP1d/rJl0SS/ukUwT/2Q=="
)
"""High-Throughput JPEG 2000, reversible, by OpenJPH: the values of `ramp`."""


def ramp() -> np.ndarray:
    y, x = np.mgrid[:32, :32]
    return 1024 + 20 * x + 3 * y + (x * y) % 7


@pytest.mark.parametrize("number", [201, 202, 203])
def test_high_throughput_jpeg_2000_gives_identical_values(number: int) -> None:
    value = encapsulate([base64.b64decode(HTJ2K)] * 3)
    decoded = list(decode_encapsulated(value, [0, 2], 3, FORMAT, f"1.2.840.10008.1.2.4.{number}"))
    assert len(decoded) == 2
    for stored in decoded:
        np.testing.assert_array_equal(stored, ramp())


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80"]
)
def test_what_is_no_code_stream_is_a_decoding_error(syntax: str) -> None:
    with pytest.raises(DecodingError):
        list(decode_encapsulated(encapsulate([b"no code stream of anything at all "]), [0], 1, FORMAT, syntax))


def test_a_syntax_is_named_for_people() -> None:
    assert name_of("1.2.840.10008.1.2.4.100").startswith("MPEG2")
    assert name_of("1.2.3") == "1.2.3"


ENCODERS = {
    "57": [lambda a, n=n: imagecodecs.jpeg8_encode(a, lossless=True, predictor=n, bitspersample=16) for n in range(1, 8)],
    "70": [lambda a: imagecodecs.jpeg8_encode(a, lossless=True, predictor=1, bitspersample=12)],
    "80": [imagecodecs.jpegls_encode],
    "90": [
        lambda a, kind=kind: imagecodecs.jpeg2k_encode(a, level=0, codecformat=kind, reversible=True) for kind in ("j2k", "jp2")
    ],
    "201": [imagecodecs.htj2k_encode],
}
LOSSY = {
    "51": lambda a: imagecodecs.jpeg8_encode(a, level=98, bitspersample=12),
    "81": lambda a: imagecodecs.jpegls_encode(a, level=2),
    "91": lambda a: imagecodecs.jpeg2k_encode(a, level=90, codecformat="j2k", reversible=False),
    "203": lambda a: imagecodecs.htj2k_encode(a, level=1e-4, reversible=False),
}


def decoded(stream: bytes, number: str, pixels: PixelFormat = FORMAT) -> np.ndarray:
    (stored,) = decode_encapsulated(encapsulate([stream]), [0], 1, pixels, f"1.2.840.10008.1.2.4.{number}")
    return stored


@pytest.mark.parametrize("number", ENCODERS)
def test_lossless_code_streams_give_identical_values(number: str) -> None:
    values = ramp().astype(np.uint16)
    for encode in ENCODERS[number]:
        np.testing.assert_array_equal(decoded(encode(values), number), values)


@pytest.mark.parametrize("number", LOSSY)
def test_lossy_code_streams_give_near_values(number: str) -> None:
    values = ramp().astype(np.uint16)
    found = decoded(LOSSY[number](values), number).astype(int)
    assert np.abs(found - values).max() <= 20
    assert np.abs(found - values).mean() <= 5


@pytest.mark.parametrize("number", ["70", "80", "90", "201"])
def test_the_header_decides_on_the_sign(number: str) -> None:
    """A code stream of unsigned words, and a header that calls them signed: JPEG knows no other way (PS3.5 8.2.1)."""
    values = (ramp() - 1500).astype(np.int16)
    stream = ENCODERS[number][0](values.view(np.uint16)) if number != "70" else ENCODERS["57"][0](values.view(np.uint16))
    found = decoded(stream, number, replace(FORMAT, signed=True))
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, values)


def test_a_signed_code_stream_under_an_unsigned_header_keeps_its_bits() -> None:
    values = (ramp() - 1500).astype(np.int16)
    stream = imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k", reversible=True)
    np.testing.assert_array_equal(decoded(stream, "90"), values.view(np.uint16))


@pytest.mark.parametrize("number", [*ENCODERS, *LOSSY])
def test_an_image_of_another_size_is_not_decoded(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = (LOSSY[number] if number in LOSSY else ENCODERS[number][0])(ramp().astype(np.uint16))
    for decoder in ("jpeg8_decode", "jpegls_decode", "jpeg2k_decode"):
        monkeypatch.setattr(imagecodecs, decoder, lambda _: pytest.fail("the decoder was asked"))
    with pytest.raises(DecodingError, match="another size"):
        decoded(stream, number, replace(FORMAT, rows=16))


@pytest.mark.parametrize("number", ["70", "51", "90", "201"])
def test_changed_bytes_are_decoded_or_refused_at_once(number: str) -> None:
    """JPEG-LS is left out: its decoder is slow to give up, in any caller."""
    whole = (LOSSY[number] if number in LOSSY else ENCODERS[number][0])(ramp().astype(np.uint16))
    places = st.integers(0, 160) | st.integers(0, len(whole) - 1)

    @settings(deadline=20_000, max_examples=150)
    @given(changes=st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=5), length=st.none() | places)
    def damage(changes: list[tuple[int, int]], length: int | None) -> None:
        data = bytearray(whole)
        for place, value in changes:
            data[min(place, len(data) - 1)] = value
        try:
            assert decoded(bytes(data[: None if length is None else max(length, 2)]), number).shape == (32, 32)
        except DecodingError as error:
            assert str(error)

    damage()


@pytest.mark.parametrize("number", ["57", "70", "51", "80", "81", "90", "91", "201", "203"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
def test_a_code_stream_that_is_cut_short_is_refused(number: str, share: float) -> None:
    whole = (LOSSY[number] if number in LOSSY else ENCODERS[number][0])(ramp().astype(np.uint16))
    with pytest.raises(DecodingError):
        decoded(whole[: int(share * len(whole))], number)


def test_a_size_is_read_behind_fill_bytes_and_application_segments() -> None:
    stream = ENCODERS["70"][0](ramp().astype(np.uint16))
    assert jpeg_size(stream) == (32, 32)
    assert jpeg_size(b"\xff\xd8\xff\xff\xff\xe1\x00\x04ab" + stream[2:]) == (32, 32)


def test_the_size_of_a_jp2_file_is_that_of_its_code_stream_box() -> None:
    """Another box may hold the like of a small code stream, and the decoder would not see it."""
    small = ENCODERS["90"][0](ramp().astype(np.uint16))
    file = imagecodecs.jpeg2k_encode(np.zeros((48, 64), np.uint16), level=0, codecformat="jp2", reversible=True)
    assert jpeg_2000_size(file) == (48, 64)
    end_of_type = file.index(b"ftyp") + 16
    for box in (struct.pack(">L4s", 8 + len(small), b"xml ") + small, struct.pack(">L4sQ", 1, b"xml ", 16 + len(small)) + small):
        decoy = file[:end_of_type] + box + file[end_of_type:]
        assert imagecodecs.jpeg2k_decode(decoy).shape == (48, 64)
        assert jpeg_2000_size(decoy) == (48, 64)
    for broken in (file[:end_of_type], file[:end_of_type] + struct.pack(">L4s", 4, b"xml ") + bytes(40), b"box " * 20 + small):
        with pytest.raises(ValueError, match="no JPEG 2000"):
            jpeg_2000_size(broken)


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (24, b"\0\0\0\1\0\0\0\1", "one component|too many tiles"),
        (24, b"\0\0\0\0", "impossible"),
        (40, b"\0\3", "one component"),
        (16, b"\0\0\1\0", "impossible"),
    ],
)
def test_an_impossible_jpeg_2000_header_is_refused(at: int, value: bytes, said: str) -> None:
    stream = bytearray(ENCODERS["90"][0](np.zeros((128, 128), np.uint16)))
    stream[at : at + len(value)] = value
    with pytest.raises(ValueError, match=said):
        jpeg_2000_size(bytes(stream))


def test_every_syntax_names_its_decoder() -> None:
    found = decoders()
    assert all(found[syntax] == "native" for syntax in NATIVE)
    assert found["1.2.840.10008.1.2.4.90"] == "OpenJPEG"
    assert len(found) == 18
