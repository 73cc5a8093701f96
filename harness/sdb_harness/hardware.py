"""What machine this is: part of every cell's identity, because it moves every speed.

Place in the flow: `describe_hardware` once per run; its hash goes into the `Cell`, the whole into
the `RunManifest`. The same sweep on another machine is therefore another set of cells. Reads
`/proc` and asks `nvidia-smi`, so a run without a model never imports torch.

What it does not do: clocks, power caps, temperature and neighbours on the host are not read.
"""

import os
import platform
import shutil
import subprocess
from pathlib import Path

from sdb_harness.records import Wire


class Hardware(Wire):
    """The parts of a machine that decide how fast it generates."""

    cpu: str
    """Model name as the kernel gives it."""
    num_cpus: int
    """Logical processors this process may use."""
    memory_gib: int
    """Physical memory, rounded."""
    gpus: tuple[str, ...]
    """Names of the GPUs, empty without."""
    system: str
    """Operating system and machine type, for example `Linux x86_64`."""

    def describe(self) -> dict[str, str]:
        """Spell every part as text, for the manifest."""
        parts = {name: str(value) for name, value in self.model_dump(exclude={"gpus"}).items()}
        return parts | {"gpus": ", ".join(self.gpus) or "none", "hash": self.compute_hash()}


def describe_hardware() -> Hardware:
    """Read what this machine is."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Hardware(
        cpu=_read_cpu_name(),
        num_cpus=_count_cpus(),
        memory_gib=round(memory_bytes / (1 << 30)),
        gpus=_list_gpus(),
        system=f"{platform.system()} {platform.machine()}",
    )


def _read_cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _count_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _list_gpus() -> tuple[str, ...]:
    """Names from the driver's own tool; it is absent where there is no NVIDIA GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if answer.returncode != 0:
        return ()
    return tuple(line.strip() for line in answer.stdout.splitlines() if line.strip())
