"""The processor's instruction set: the same models give the same digits on the same one."""

import platform
from functools import cache
from pathlib import Path

# What numerical libraries choose their code by.
TELLING = ("asimd", "sve", "avx", "avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "amx_int8")


@cache
def instruction_set() -> str:
    """Return the machine's architecture and those of its extensions by which libraries choose their code."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return " ".join([platform.machine(), *(name for name in TELLING if name in flags)])
