"""`laat doctor`: what this installation has, and what is missing."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from laatcli.console import Column, Console
from stages.version import __version__

EXAMPLES = ("laat doctor", "laat doctor --json")
_PACKAGES = (
    *("torch", "open_clip_torch", "safetensors", "datasets", "pyautoattack", "timm"),
    *("numpy", "scipy", "pillow", "matplotlib", "typer", "rich"),
)


def doctor(console: Console) -> None:
    """Show versions, devices, threads and weights, and what is missing."""
    packages = {name: _version(name) for name in _PACKAGES}
    record: dict[str, Any] = {
        "laat": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": packages,
        **_torch(),
        **_weights(),
    }
    missing = [f"package {name}: pip install {name}" for name, found in packages.items() if found is None]
    if record["default_weights"] == "not here":
        missing.append(
            "weights of the default encoder ViT-B-16 (openai): fetched from the hub on first use; without network give "
            "--pretrained FILE.safetensors, --model local-dir:PATH or --model demo"
        )
    record["missing"] = missing
    console.result(record)
    rows = [["laat", __version__], ["python", f"{record['python']} on {record['platform']}"]]
    rows += [[name, found or "missing"] for name, found in packages.items()]
    rows += [
        [key.replace("_", " "), str(record[key])]
        for key in ("devices", "auto_device", "threads", "weights_cache", "default_weights", "demo_weights")
    ]
    rows.insert(-3, ["bfloat16 units", _bf16_text(record)])
    console.table([Column("what"), Column("found")], rows)
    for text in missing:
        console.line(f"missing: {text}")
    if not missing:
        console.line("nothing is missing")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _torch() -> dict[str, Any]:
    try:
        import torch

        from stages.devices import bf16_units, resolve_device
    except ImportError as error:
        return {"devices": f"torch does not import: {error}", "auto_device": "none", "threads": 0, **_bf16("")}
    names = [f"cuda:{at} {torch.cuda.get_device_name(at)}" for at in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return {
        "devices": ", ".join(["cpu", *names, *mps]),
        "auto_device": resolve_device("auto"),
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} cores",
        **_bf16(bf16_units("cpu")),
    }


def _bf16(units: str) -> dict[str, Any]:
    """What the CPU calculates with in bfloat16, and what training gains from it, measured in about a second."""
    if not units:
        return {"bf16_units": None, "bf16_attack_speedup": None}
    from stages.training.attack_speed import bf16_attack_speedup

    return {"bf16_units": units, "bf16_attack_speedup": round(bf16_attack_speedup(), 2)}


def _bf16_text(record: dict[str, Any]) -> str:
    units, gain = record["bf16_units"], record["bf16_attack_speedup"]
    if units is None:
        return "none"
    return f"{units}; the inner attack of laat train is {gain:.1f} times as fast as in float32 (conv4-64, measured now)"


def _weights() -> dict[str, Any]:
    from importlib import resources

    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE

    default = try_to_load_from_cache("timm/vit_base_patch16_clip_224.openai", "open_clip_model.safetensors")
    demo = resources.files("stages.anchors").joinpath("demo_clip/open_clip_model.safetensors").is_file()
    return {
        "weights_cache": HF_HUB_CACHE,
        "default_weights": "here" if isinstance(default, str) else "not here",
        "demo_weights": "here" if demo else "not here",
    }
