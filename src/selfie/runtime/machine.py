"""Which machine this is."""

import os
import platform
import re
from pathlib import Path
from typing import Any


def describe_machine() -> dict[str, Any]:
    """Name (under which its benchmark's results are kept), processor, cores, torch's threads and version.

    A processor's name has its instructions in it: virtual machines of one name may have bf16 products or not, which
    makes stages several times faster or slower.
    """
    import torch

    name = platform.processor() or platform.machine()
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    elif Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
        name = found[1] if found else name
    cores = len(os.sched_getaffinity(0))
    instructions = "" if torch.cuda.is_available() else f"-{_instructions()}"
    slug = re.sub(r"[^a-z0-9]+", "-", f"{name}-{cores}-cores{instructions}".lower()).strip("-")
    return {
        "name": slug,
        "processor": name,
        "cores": cores,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _instructions() -> str:
    """The processor's fastest for matrix products: ``amx``, ``avx512-bf16``, or what torch's kernels are built for."""
    import torch

    if torch.cpu._is_amx_tile_supported():
        return "amx"
    return "avx512-bf16" if torch.cpu._is_avx512_bf16_supported() else torch.backends.cpu.get_cpu_capability()
