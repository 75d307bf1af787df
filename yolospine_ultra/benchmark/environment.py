"""What a result may depend on besides data and protocol: versions, hardware, the program's own source.

Written for this project. `environment` holds what has to agree among the cells of a sweep; it names no machine.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import yolospine_ultra
from yolospine_ultra.plugin import cfg_dir

PACKAGES = (
    "torch",
    "torchvision",
    "ultralytics",
    "numpy",
    "scipy",
    "scikit-learn",
    "opencv-python",
    "faster-coco-eval",
)
_GENERATION = {"family": "cpu family", "model": "model", "stepping": "stepping"}
# these show results and have no part in them
_SHOWS = ("benchmark/report/", "benchmark/paper", "benchmark/specs", "app/")


def devices(device: str) -> list[int]:
    """Indices of the GPUs that `device` names, none for "cpu".

    Raises:
        ValueError: another form, or a GPU that is not there.
    """
    if device == "cpu":
        return []
    if not all(d.isdecimal() for d in device.split(",")):
        raise ValueError(f"device={device} is unknown; expected cpu, the index of a GPU, or several, such as 0,1.")
    found, there = [int(d) for d in device.split(",")], torch.cuda.device_count()
    if max(found) >= there or len(set(found)) < len(found):
        raise ValueError(f"device={device} is not usable: this machine has {there} CUDA GPUs; use device=cpu or fewer.")
    return found


def environment(device: str, threads: int) -> dict[str, Any]:
    """Versions, hardware and settings that a result may depend on.

    Args:
        device: as in `family.Budget`.
        threads: CPU threads of torch.

    Returns:
        JSON values: `python`, `platform`, `processor`, `cpu_capability` (the instructions that torch uses), `cpus`,
        `threads`, `gpus`, `cuda`, `cudnn`, `tf32_matmul`, `tf32_convolution`, the version of each of
        `PACKAGES` (None where it is not installed), and `source`, a hash of this package's code and model files.

    Raises:
        ValueError: a GPU that is not there.
    """
    gpus = [torch.cuda.get_device_name(i) for i in devices(device)]
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpus": os.cpu_count(),
        "threads": threads,
        "gpus": gpus,
        "cuda": torch.version.cuda if gpus else None,
        "cudnn": torch.backends.cudnn.version() if gpus else None,
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32 if gpus else None,
        "tf32_convolution": torch.backends.cudnn.allow_tf32 if gpus else None,
        **versions(PACKAGES),
        "source": source_hash(),
    }


def versions(packages: tuple[str, ...]) -> dict[str, str | None]:
    """Version of each distribution, None where it is not installed."""
    found: dict[str, str | None] = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _processor(info: Path = Path("/proc/cpuinfo")) -> str:
    """Model name of the CPU with its family, model and stepping where the system tells.

    A virtual machine often has one name for several generations, whose libraries compute with other instructions and
    round otherwise, so that trainings of one seed part.
    """
    fields: dict[str, str] = {}
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())  # of the first processor
    name = fields.get("model name") or platform.processor() or platform.machine()
    numbers = [f"{key} {fields[field]}" for key, field in _GENERATION.items() if fields.get(field)]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def source_hash() -> str:
    """Hash of the code and model files of this package that results may depend on: 12 hexadecimal digits."""
    package = Path(yolospine_ultra.__file__).parent
    files = {f.relative_to(package).as_posix(): f for f in package.rglob("*.py")}
    files |= {f"cfg/models/{f.name}": f for f in (cfg_dir() / "models").glob("*.yaml")}
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        if not name.startswith(_SHOWS):
            digest.update(name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def commit() -> str:
    """Commit of the package's source, with "+dirty" where its files differ from it; "" outside a git repository."""
    package = Path(yolospine_ultra.__file__).parent
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return ""
    head = (_git(package, "rev-parse", "HEAD") or "").strip()
    return head + ("+dirty" if _git(package, "status", "--porcelain", "--", ".", str(cfg_dir())) else "")


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of a git command in a folder, None where it fails or there is no git."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def offline_variables(config: Path, seed: int, threads: int) -> Mapping[str, str]:
    """Environment variables of a cell's process: no downloads, fixed threads and hashes, the host's settings apart.

    Args:
        config: folder for the host's settings, so that the user's loggers and folders stay as they are.
        seed: of Python's hashes.
        threads: CPU threads.
    """
    libraries = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB_MAXIMUM")
    return {
        **{f"{name}_NUM_THREADS": str(threads) for name in libraries},
        "YOLO_CONFIG_DIR": str(config),
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "0",
        "HF_HUB_OFFLINE": "1",
        "PYTHONHASHSEED": str(seed),
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # cuBLAS is deterministic only with it
    }
