"""Do files in the official layout load at the published size, and make an image?

For each generator, random weights of the published size are written in the layout of its authors, as far as the small
recorded files of ``tests/goldens`` tell it (``tests/official_layout.py``), read by ``load_original``, and compared with
what was written, bit for bit. Then the pipeline is built of these files by ``from_original`` in a process of its own,
which makes one image as ``published.py`` does. Parts whose layout is not recorded at this size are read from a folder
of ``save_pretrained``, and named. Names of layers that no recorded file has are those that our own reader accepts, so
this tests sizes and memory, not the authors' names.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from published import numbers, one_image, short_options, text_encoder, words

import photophone
from photophone import create_model
from photophone.loading.checkpoints import write_weights
from photophone.loading.registry import find, load_original

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from official import official_variants  # noqa: E402
from official_layout import write_official  # noqa: E402

NAMES = ("llamagen-b-256", "mar-base", "mar-large-cspd-base", "xar-base", "var-d16", "titok-l32-generator",
         "titok-s128-generator", "nar-b-256", "elm-l-2-10", "elm-mlm-l-1-16", "tokenset-s", "fpdm-xl",
         "bitdance-b-1x", "bitdance-b-16x", "bar-b", "bar-b-patch4", "maskgen-vq-l", "maskgen-kl-l", "hart-0.7b-1024",
         "llamagen-xl-t2i-256")


def write_part(name: str, config: dict, folder: Path) -> tuple[str, str]:
    """Write a random model of the published size and read it again: the file or folder, and why it is not in the
    official layout, or nothing.

    Raises:
        ValueError: what was read differs.
    """
    entry, model = find(name), create_model(name, **config)
    own, reason = model.state_dict(), ""
    try:
        official = write_official(type(model), official_variants(type(model)), own, {**entry.config, **config})
        target = folder / Path(entry.files[0] if entry.files else "weights.pth").name
        write_weights(target, official)
    except ValueError as error:
        reason, target = str(error), folder
        model.save_pretrained(folder)
    again = load_original(name, target, **config).state_dict()
    if again.keys() != own.keys() or any(not torch.equal(again[key], value) for key, value in own.items()):
        raise ValueError(f"{name}: what was read from {target} is not what was written")
    return str(target), reason


def write_files(name: str, folder: Path) -> None:
    """Write all parts of a chain and what ``from_original`` needs to ``folder/files.json``."""
    torch.manual_seed(0)
    chain, files, reasons = find(name).chain, {}, {}
    for key, part in chain.files.items():
        (folder / key).mkdir()
        config = chain.tokenizer_config if key == chain.tokenizer[0] else {}
        files[key], reasons[part] = write_part(part, config, folder / key)
    sizes = create_model(name).config if chain.text_encoder or chain.text_tokenizer else {}
    if chain.text_encoder:
        words().save_pretrained(folder / "text_encoder")
        text_encoder(sizes).save_pretrained(folder / "text_encoder")
        files["text_encoder"] = str(folder / "text_encoder")
    elif chain.text_tokenizer:
        numbers(sizes["vocab_size"]).save_pretrained(folder / "text_tokenizer")
        files["text_tokenizer"] = str(folder / "text_tokenizer")
    (folder / "files.json").write_text(json.dumps(files), encoding="utf-8")
    (folder / "reasons.json").write_text(json.dumps(reasons), encoding="utf-8")


def read_files(name: str, folder: Path) -> None:
    """Build the pipeline of the files, make an image, and print one line."""
    files = json.loads((folder / "files.json").read_text(encoding="utf-8"))
    reasons = json.loads((folder / "reasons.json").read_text(encoding="utf-8"))
    total = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    started = time.process_time()
    pipeline = getattr(photophone, find(name).chain.pipeline).from_original(name, **files)
    loading = time.process_time() - started
    count, size, seconds = one_image(pipeline, short_options(name))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    official = ", ".join(part for part, reason in reasons.items() if not reason) or "none"
    print(f"{name:22s} {count / 1e6:5.0f} M  files {total / 2**30:4.1f} GiB  read in {loading:5.1f} s of a core  "
          f"{size:>9s} in {seconds:6.1f} s  peak {memory:4.1f} GiB  official: {official}", flush=True)
    for part, reason in reasons.items():
        if reason:
            print(f"    {part} from a saved folder: {reason}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, help="registered generators of images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--step", choices=("write", "read"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.step:
        {"write": write_files, "read": read_files}[arguments.step](arguments.names[0], arguments.folder)
        return
    for name in arguments.names:
        with tempfile.TemporaryDirectory() as folder:
            for step in ("write", "read"):
                subprocess.run([sys.executable, __file__, name, "--step", step, "--folder", folder, "--threads",
                                str(arguments.threads)], check=True)


if __name__ == "__main__":
    main()
