"""The instruction set is given to oneDNN where it helps, and never against the site's setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.models.processor import ISA_VARIABLE, ONEDNN_VARIABLE, tune, widest_useful_isa


def cpuinfo(vendor: str, family: int, flags: str) -> str:
    core = f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: 17\nflags\t\t: fpu {flags}\n"
    return f"{core}\n{core}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (cpuinfo("AuthenticAMD", 25, "avx2 avx512f"), "AVX2"),
        (cpuinfo("AuthenticAMD", 25, "avx2"), None),
        (cpuinfo("AuthenticAMD", 26, "avx2 avx512f"), None),
        (cpuinfo("GenuineIntel", 6, "avx2 avx512f"), None),
        ("processor\t: 0\nCPU implementer\t: 0x41\n", None),
        ("", None),
    ],
)
def test_only_a_processor_that_halves_avx512_is_held_back(text: str, expected: str | None) -> None:
    assert widest_useful_isa(text) == expected


def test_the_environment_is_prepared_and_what_it_says_stays(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(cpuinfo("AuthenticAMD", 25, "avx512f"))
    empty: dict[str, str] = {}
    chosen = {ISA_VARIABLE: "AVX512_CORE_BF16", ONEDNN_VARIABLE: "0", "TF_CPP_MIN_LOG_LEVEL": "0"}

    tune(empty, file)
    tune(chosen, file)

    assert empty == {ISA_VARIABLE: "AVX2", ONEDNN_VARIABLE: "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    assert chosen == {ISA_VARIABLE: "AVX512_CORE_BF16", ONEDNN_VARIABLE: "0", "TF_CPP_MIN_LOG_LEVEL": "0"}


def test_where_nothing_is_known_oneDNN_chooses(tmp_path: Path) -> None:
    environment: dict[str, str] = {}

    tune(environment, tmp_path / "absent")

    assert ISA_VARIABLE not in environment
