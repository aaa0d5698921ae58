"""What the processor is good at, told to the library that computes the convolutions (oneDNN) before it starts."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

ISA_VARIABLE: Final = "ONEDNN_MAX_CPU_ISA"
"""oneDNN's own variable; read once, when the process computes its first convolution."""

_CPUINFO: Final = Path("/proc/cpuinfo")


def widest_useful_isa(cpuinfo: str) -> str | None:
    """The instruction set that oneDNN should stop at, or None where it should choose.

    AMD's family 25 (Zen 4) runs AVX-512 in two halves: 256-bit instructions are as fast there, and they waste nothing where the
    filters are no multiple of 16. Measured with 24 filters: 0.78 of the time; see docs/models.md.

    Parameters
    ----------
    cpuinfo
        As Linux shows it in `/proc/cpuinfo`.
    """
    first = cpuinfo.split("\n\n", 1)[0]
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    split_in_two = facts.get("vendor_id") == "AuthenticAMD" and facts.get("cpu family") == "25"
    return "AVX2" if split_in_two and "avx512f" in facts.get("flags", "").split() else None


def tune(environment: MutableMapping[str, str] = os.environ, cpuinfo: Path = _CPUINFO) -> None:
    """Prepare this process for TensorFlow; to be called before it is imported. What the environment says already stays."""
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's greetings at start are no news
    try:
        isa = widest_useful_isa(cpuinfo.read_text(errors="replace"))
    except OSError:
        return
    if isa is not None:
        environment.setdefault(ISA_VARIABLE, isa)
