"""Which machine this is."""

import os
import platform
import re
from pathlib import Path
from typing import Any


def describe_machine() -> dict[str, Any]:
    """Name (under which its benchmark's results are kept), processor, cores, torch's threads and version."""
    import torch

    name = platform.processor() or platform.machine()
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    elif Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
        name = found[1] if found else name
    cores = len(os.sched_getaffinity(0))
    slug = re.sub(r"[^a-z0-9]+", "-", f"{name}-{cores}-cores".lower()).strip("-")
    return {
        "name": slug,
        "processor": name,
        "cores": cores,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
