"""Decoders for which no encoder is at hand: small code streams that were made once."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from pydicom.encaps import encapsulate

from conversion.decoders import DecodingError, PixelFormat, decode_encapsulated, name_of

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
