"""Processor settings of oneDNN, the library that computes the convolutions; set before TensorFlow is imported."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

ISA_VARIABLE: Final = "ONEDNN_MAX_CPU_ISA"
"""Environment variable of oneDNN, which reads it once, at the first convolution of the process."""

ONEDNN_VARIABLE: Final = "TF_ENABLE_ONEDNN_OPTS"
"""Environment variable of TensorFlow: whether oneDNN computes the convolutions."""

_CPUINFO: Final = Path("/proc/cpuinfo")


def widest_useful_isa(cpuinfo: str) -> str | None:
    """The widest instruction set that oneDNN should use; None: oneDNN chooses.

    AMD's family 25 (Zen 4) executes AVX-512 in two halves. 256-bit instructions are as fast there, and leave no part of a register
    unused where the number of filters is not a multiple of 16. Measured with 24 filters: 0.78 of the time; see docs/models.md.

    Parameters
    ----------
    cpuinfo
        Content of Linux' `/proc/cpuinfo`.
    """
    first = cpuinfo.split("\n\n", 1)[0]
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    split_in_two = facts.get("vendor_id") == "AuthenticAMD" and facts.get("cpu family") == "25"
    return "AVX2" if split_in_two and "avx512f" in facts.get("flags", "").split() else None


def tune(environment: MutableMapping[str, str] = os.environ, cpuinfo: Path = _CPUINFO) -> None:
    """Set the environment for TensorFlow; call it before the import. Variables that are set already are kept."""
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no start-up messages
    # TensorFlow itself uses oneDNN only on processors with AVX512-VNNI; on AMD Zen 3 a detection takes 0.14 of the time with it
    environment.setdefault(ONEDNN_VARIABLE, "1")
    try:
        isa = widest_useful_isa(cpuinfo.read_text(errors="replace"))
    except OSError:
        return
    if isa is not None:
        environment.setdefault(ISA_VARIABLE, isa)
