"""The command that makes noisy speech clean."""

from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path
from typing import Annotated

import typer

from photophone.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    OverwriteOption,
    QuietOption,
    app,
    check_dtype,
    check_json,
    load_pipeline,
)
from photophone.cli.evaluate import choose_peers, evaluate
from photophone.core.command import silence_stdout

MODEL = "photophone/tiny-enhance"


@app.command()
def enhance(inputs: Annotated[list[Path] | None, typer.Argument(metavar="IN...", help="Audio files, or folders of "
                                                                                      "them.")] = None,
            output: Annotated[str | None, typer.Option("--output", "-o", help="A folder, or for one file a .wav, "
                                                       ".flac, .ogg, .opus or .mp3: the name says the format.")] = None,
            mix: Annotated[float | None, typer.Option("--mix", "--strength", help="Share of the clean speech, 0 to 1; "
                                                      "the rest is the recording (default: as the model's weights say, "
                                                      "1 or a little less).")] = None,
            stdin: Annotated[bool, typer.Option("--stdin", help="Read one recording from stdin.")] = False,
            stdout: Annotated[bool, typer.Option("--stdout", help="Write WAV to stdout.")] = False,
            live: Annotated[bool, typer.Option("--live", help="From stdin to stdout while the sound comes in: WAV to "
                                               "WAV, raw 16-bit mono to the same.")] = False,
            sample_rate: Annotated[int, typer.Option(help="Of raw sound of --live, in Hz.")] = 16000,
            model: Annotated[str | None, typer.Option("--model", "-m", help=f"Built-in name, folder or hub id "
                                                      f"(default {MODEL}, with --live {MODEL}-live).")] = None,
            device: DeviceOption = "cpu",
            dtype: DtypeOption = "float32", quiet: QuietOption = False, overwrite: OverwriteOption = False,
            as_json: JsonOption = False) -> None:
    """Make noisy speech clean; length, rate and channels stay. Inputs are never changed.

    All inputs are checked before anything is written. With --live speech comes out at most 40 ms after it came in.
    """
    from photophone.data.audio_stream import AudioReader
    from photophone.pipelines.speech_enhancement import SpeechEnhancementPipeline, check_mix

    check_mix(mix)
    check_dtype(dtype)
    if live:
        if inputs or stdin or stdout or output is not None or as_json or overwrite:
            raise ValueError("--live goes from stdin to stdout; leave out files, --stdin, --stdout, --output, "
                             "--overwrite and --json")
        _live(model or f"{MODEL}-live", device, dtype, sample_rate, mix)
        return
    if sample_rate != 16000:
        raise ValueError("--sample-rate is that of raw sound of --live; files keep their own")
    _check_ways(inputs, stdin, output, stdout, as_json)
    sources = [(AudioReader(sys.stdin.buffer.read()), Path("stdin.wav"))] if stdin else [
        (AudioReader(path), relative) for path, relative in find_inputs(inputs)]
    if stdout and len(sources) != 1:
        raise ValueError(f"{len(sources)} recordings do not fit --stdout; give a folder with --output")
    targets = [None] if stdout else find_targets(sources, output, overwrite)
    for reader, _ in sources:
        reader.levels()
    pipeline = load_pipeline(SpeechEnhancementPipeline, model or MODEL, device, dtype)
    results = []
    for (reader, _), target in zip(sources, targets):
        place = target or io.BytesIO()
        done = pipeline.enhance_file(reader, place, mix=mix, overwrite=overwrite)
        if target is None:
            sys.stdout.buffer.write(place.getvalue())
            continue
        results.append({"input": None if stdin else str(reader.source), "output": str(target),
                        "seconds": round(done.levels.frames / reader.sample_rate, 3), "sample_rate": reader.sample_rate,
                        "channels": reader.channels,
                        **({} if done.scaled_by == 1 else {"scaled_by": round(done.scaled_by, 6)})})
        if not (quiet or as_json):
            scaled = "" if done.scaled_by == 1 else f", scaled by {done.scaled_by:.3g}: it has peaks over full scale"
            print(f"{target}  ({results[-1]['seconds']:.1f} s{scaled})")
    if as_json:
        print(json.dumps({"files": results, "mix": pipeline.chosen_mix(mix), **pipeline.source,
                          "weights_licence": pipeline.weights_licence}))


def _check_ways(inputs: list[Path] | None, stdin: bool, output: str | None, stdout: bool, as_json: bool) -> None:
    """Refuse what does not say in one way where the sound comes from and goes to."""
    if stdin == bool(inputs):
        raise ValueError("give files or folders, or --stdin" if not stdin else "give either files or --stdin, not both")
    if stdout == (output is not None):
        raise ValueError("give either --output or --stdout")
    if stdout and as_json:
        raise ValueError("--stdout carries audio; --json cannot be printed there")


def _live(model: str, device: str, dtype: str, sample_rate: int, mix: float | None) -> None:
    """Sound of standard input to standard output, chunk by chunk, until it ends."""
    from photophone.data.audio_checks import check_rate
    from photophone.data.audio_write import pcm16, stream_header
    from photophone.data.sound_stream import SoundStream
    from photophone.pipelines.speech_enhancement import SpeechEnhancementPipeline

    check_rate(sample_rate, "--sample-rate")
    pipeline = load_pipeline(SpeechEnhancementPipeline, model, device, dtype)  # before it waits for sound
    pipeline.live(sample_rate)  # refuses a model that does not stream
    sound, out = SoundStream(sys.stdin.buffer, sample_rate), sys.stdout.buffer
    try:
        if sound.is_wav:
            out.write(stream_header(sound.sample_rate, sound.channels))
            out.flush()
        for made in pipeline.stream(sound.chunks(), sound.sample_rate, mix=mix):
            out.write(pcm16(made.T).tobytes())
            out.flush()
    except BrokenPipeError:  # who listened has left: nothing is wrong
        silence_stdout()


def find_inputs(inputs: list[Path]) -> list[tuple[Path, Path]]:
    """Files, and where they belong in the output folder; folders are searched for audio files.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: a folder without audio.
    """
    from photophone.data.audio_checks import READ_SUFFIXES

    found = []
    for path in inputs:
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.suffix.lower() in READ_SUFFIXES and file.is_file())
            if not files:
                raise ValueError(f"the folder {path} holds no audio files ({', '.join(READ_SUFFIXES)})")
            found += [(file, file.relative_to(path)) for file in files]
        elif path.exists():
            found.append((path, Path(path.name)))
        else:
            raise FileNotFoundError(f"no such file or folder: {path}")
    return found


def find_targets(sources: list, output: str, overwrite: bool = False) -> list[Path]:
    """An output file for each source: of the same name, as WAV where its format is not written.

    Raises:
        ValueError: two sources would give one file, one would overwrite an input, or a format that is not written.
        OSError: one is there and ``overwrite`` is not set, or cannot be written there.
    """
    from photophone.core.files import check_targets
    from photophone.data.audio_checks import WRITE_FORMATS
    from photophone.data.audio_write import check_format
    from photophone.pipelines.output import check_suffix, names_folder

    if names_folder(output):
        targets = [Path(output) / (name if name.suffix.lower() in WRITE_FORMATS else name.with_suffix(".wav"))
                   for _, name in sources]
    else:
        targets = [check_suffix(output, WRITE_FORMATS)]
        if len(sources) != 1:
            raise ValueError(f"{len(sources)} recordings do not fit one file {output}; give a folder")
    inputs = {Path(reader.source).resolve() for reader, _ in sources if not isinstance(reader.source, bytes)}
    seen: set[Path] = set()
    for target in map(Path.resolve, targets):
        if target in inputs:
            raise ValueError(f"{target} is an input; choose another --output")
        if target in seen:
            raise ValueError(f"two inputs would be written to {target}; enhance them apart")
        seen.add(target)
    check_targets(targets, overwrite)
    for target, (reader, _) in zip(targets, sources):
        check_format(target, reader.sample_rate, reader.channels)
    return targets


@evaluate.command("enhance")
def evaluate_enhance(pairs: Annotated[Path | None, typer.Option(help="Parquet file of pairs clean_ID and "
                                                                     "noisy_ID.")] = None,
                     speech: Annotated[Path | None, typer.Option(help="Prepared test speech to mix.")] = None,
                     noise: Annotated[Path | None, typer.Option(help="Prepared test noises to mix it with.")] = None,
                     snr: Annotated[list[float] | None, typer.Option(help="Only mixtures at these dB; `inf` for clean "
                                                                          "speech.")] = None,
                     condition: Annotated[list[str] | None, typer.Option(
                         help="Mixtures at 10 dB in a `room`, or over a `telephone`; both where neither this nor --snr "
                              "is given.")] = None,
                     limit: Annotated[int, typer.Option(help="Clips of each set at most.")] = 12,
                     peer: Annotated[list[str] | None, typer.Option(help="Only these peers; `none` for none.")] = None,
                     mix: Annotated[float | None, typer.Option(help="Share of the clean speech (default: as the "
                                                               "model's weights say).")] = None,
                     judges: Annotated[bool, typer.Option(help="DNSMOS, PLCMOS, Whisper, speakers.")] = True,
                     words: Annotated[bool, typer.Option(help="Word errors by Whisper, which take most of the "
                                                              "time.")] = True,
                     seed: Annotated[int, typer.Option(help="Of the mixtures.")] = 0,
                     model: ModelOption = "photophone/tiny-enhance", device: DeviceOption = "cpu",
                     output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file to write.")] = None,
                     overwrite: OverwriteOption = False, as_json: JsonOption = False) -> None:
    """Quality of an enhancer beside its input, the clean speech, and other enhancers, on pairs and on mixtures at -5,
    0, 5, 10 and 15 dB, on clean speech, in rooms and over the telephone."""
    import torch

    from photophone.evaluation.peers.enhancement import ENHANCERS
    from photophone.evaluation.report import format_report, write_json
    from photophone.evaluation.tasks.enhancement import evaluate_enhancers, our_system, read_pairs
    from photophone.pipelines.speech_enhancement import SpeechEnhancementPipeline

    if limit < 1:
        raise ValueError(f"--limit must be at least 1, got {limit}")
    check_json(output, overwrite)
    if pairs is None and speech is None or (speech is None) != (noise is None):
        raise ValueError("give --pairs, or --speech and --noise, or all three")
    torch.set_num_threads(1)
    pipeline = load_pipeline(SpeechEnhancementPipeline, model, device)
    pipeline.set_progress_bar_config(disable=True)
    sets = {} if pairs is None else {"pairs": read_pairs(pairs, limit)}
    if speech is not None:
        sets |= _mixtures(speech, noise, snr, condition, limit, seed)
    peers = choose_peers(ENHANCERS, peer)
    result = evaluate_enhancers({"photophone": our_system(pipeline, mix), **peers}, sets, judges=judges,
                                words=words, progress=sys.stderr.isatty())
    if output is not None:
        write_json(result, output)
    print(json.dumps(result) if as_json else format_report("enhance", result))


def _mixtures(speech: Path, noise: Path, snr: list[float] | None, condition: list[str] | None, limit: int,
              seed: int) -> dict[str, list]:
    """The sets of pairs that are mixed of prepared files; all of them where nothing is chosen."""
    from photophone.data.speech import SpeechDataset
    from photophone.evaluation.tasks.enhancement import CONDITION_SNR_DB, CONDITIONS, SNRS_DB, mixed_pairs

    if snr is None and condition is None:
        snr, condition = SNRS_DB, CONDITIONS
    data = SpeechDataset(speech), SpeechDataset(noise)
    sets = {f"mixed at {level:g} dB" if math.isfinite(level) else "clean speech":
            mixed_pairs(*data, level, limit, seed) for level in snr or ()}
    return sets | {f"{name} at {CONDITION_SNR_DB:g} dB": mixed_pairs(*data, CONDITION_SNR_DB, limit, seed, name)
                   for name in condition or ()}
