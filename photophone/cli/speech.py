"""Commands that speak."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    load_pipeline,
)
from photophone.cli.evaluate import choose_peers, evaluate
from photophone.core.command import silence_stdout
from photophone.core.limits import MAX_TEXT_CHARACTERS

if TYPE_CHECKING:
    from photophone.pipelines.speech_fronts import Voice

@app.command()
def speak(text: Annotated[list[str] | None, typer.Argument(help="What to say; several texts make several files. Text "
                                                           "that begins with a dash goes behind --.")] = None,
          stdin: Annotated[bool, typer.Option("--stdin", help="Read one text in UTF-8 from standard input.")] = False,
          output: Annotated[str | None, typer.Option("--output", "-o", help="A folder, or one .wav, .flac, .ogg, .opus "
                                                     "or .mp3: the name says the format. The folder . when not "
                                                     "given.")] = None,
          stream: Annotated[str | None, typer.Option(help="Write speech to standard output as it is made: 'wav' or "
                                                     "'pcm' (16-bit little-endian mono, no header).")] = None,
          speed: Annotated[float, typer.Option(help="0.5 to 2; 1 is the voice's own.")] = 1.0,
          pause: Annotated[float, typer.Option(help="Seconds of silence between sentences.")] = 0.15,
          seed: Annotated[int | None, typer.Option(help="Of the first text; the next take the next seeds. Random when "
                                                   "not given.")] = None,
          steps: Annotated[int | None, typer.Option(help="Solver steps.")] = None,
          guidance: Annotated[float | None, typer.Option(help="Guidance scale; 1 is none.")] = None,
          temperature: Annotated[float | None, typer.Option(help="Scale of the initial noise.")] = None,
          voice: Annotated[Path | None, typer.Option(help="Recording of the voice to speak with, for models that take "
                                                     "one, or the name of a voice that the model has.")] = None,
          voice_text: Annotated[str | None, typer.Option(help="The words of that recording.")] = None,
          model: ModelOption = "photophone/tiny-speech", device: DeviceOption = "cpu", dtype: DtypeOption = "float32",
          quiet: QuietOption = False, overwrite: OverwriteOption = False,
          as_json: JsonOption = False) -> None:
    """Read English text aloud; a JSON with all settings is written beside each file.

    Files are written as the speech is made and take their name when they are complete. With --stream the seed goes to
    standard error.
    """
    from photophone.text.speech_text import check_text

    if stream and (output is not None or as_json):
        raise ValueError("--stream writes speech to standard output; leave out --output and --json")
    texts = gather_texts(text, stdin, stream)
    for one in texts:
        check_text(one)
    if voice_text is not None and voice is None:
        raise ValueError("--voice-text are the words of a recording; give it with --voice")
    if seed is not None and not 0 <= seed < 2**63 - len(texts):
        raise ValueError(f"--seed must be 0 to {2**63 - 1 - len(texts)}, got {seed}")
    seed = int.from_bytes(os.urandom(4), "big") if seed is None else seed
    check_dtype(dtype)
    if not stream:
        check_place(output or ".", texts, seed, overwrite)

    from photophone.pipelines.speech_fronts import Voice
    from photophone.pipelines.text_to_speech import TextToSpeechPipeline

    pipeline = load_pipeline(TextToSpeechPipeline, model, device, dtype)
    pipeline.set_progress_bar_config(disable=True if quiet or stream else None, unit="sentence", leave=False)
    options = {"speed": speed, "pause": pause, "guidance_scale": guidance, "temperature": temperature,
               "num_inference_steps": steps}
    spoken = None if voice is None else Voice(voice, text=voice_text)
    if voice is not None and pipeline.voices and not voice.is_file():
        spoken = str(voice)
    if stream:
        _stream(pipeline, texts[0], seed, stream, quiet, {**options, "voice": spoken})
    else:
        _write(pipeline, texts, seed, output or ".", overwrite, quiet, as_json, options, spoken)


def gather_texts(given: list[str] | None, stdin: bool, stream: str | None) -> list[str]:
    """All texts to speak.

    Raises:
        ValueError: there is none, more than one for a stream, or an unknown form of stream.
    """
    if stream not in (None, "wav", "pcm"):
        raise ValueError(f"--stream must be wav or pcm, got {stream!r}")
    texts = list(given or [])
    if stdin:
        texts.append(read_stdin())
    if not texts:
        raise ValueError("nothing to say: give a text, or --stdin")
    if stream and len(texts) > 1:
        raise ValueError(f"--stream speaks one text, got {len(texts)}")
    return texts


def check_place(output: str, texts: list[str], seed: int, overwrite: bool) -> None:
    """Refuse a place for results before a model is loaded.

    Raises:
        ValueError, OSError: see :func:`photophone.pipelines.output.target_files`.
    """
    from photophone.data.audio_checks import WRITE_FORMATS
    from photophone.pipelines.output import target_files, unique_names

    names = unique_names(texts, list(range(seed, seed + len(texts))), "speech")
    target_files(output, names, tuple(WRITE_FORMATS), "texts", overwrite=overwrite)


def read_stdin() -> str:
    """The text on standard input.

    Raises:
        ValueError: bytes that are no UTF-8, or more than any text may have.
    """
    data = sys.stdin.buffer.read(4 * MAX_TEXT_CHARACTERS + 5)  # a character has at most 4 bytes; one more than allowed
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(data) > 4 * MAX_TEXT_CHARACTERS:
            raise ValueError(f"the text on standard input has over {MAX_TEXT_CHARACTERS} characters; split it"
                             ) from error
        raise ValueError(f"standard input is not UTF-8: byte 0x{data[error.start]:02X} at position {error.start}; "
                         "convert it with iconv") from error


def _stream(pipeline, text: str, seed: int, form: str, quiet: bool, options: dict) -> None:
    import torch

    from photophone.data.audio_write import pcm16, stream_header

    chunks = pipeline.stream(text, generator=torch.Generator().manual_seed(seed), **options)
    if not quiet:
        print(f"seed {seed}, {pipeline.sample_rate} Hz", file=sys.stderr)
    out = sys.stdout.buffer
    try:
        if form == "wav":
            out.write(stream_header(pipeline.sample_rate))
        for chunk in chunks:
            out.write(pcm16(chunk.audio).tobytes())
            out.flush()
    except BrokenPipeError:  # the player was closed: nothing is wrong
        chunks.close()
        silence_stdout()


def _write(pipeline, texts: list[str], seed: int, output: str, overwrite: bool, quiet: bool, as_json: bool,
           options: dict, voice: Voice | str | None) -> None:
    import torch

    from photophone.pipelines.speech_output import speech_file, speech_files

    seeds = [seed + index for index in range(len(texts))]
    seconds = []
    files = speech_files(output, texts, seeds, pipeline.sample_rate, overwrite=overwrite)
    for file, text, own in zip(files, texts, seeds):
        chunks = pipeline.stream(text, generator=torch.Generator().manual_seed(own), voice=voice, **options)
        facts = pipeline.facts(text, own, **options)
        if voice is not None:
            facts |= {"voice": voice} if isinstance(voice, str) else {"voice": str(voice.audio),
                                                                      "voice_text": voice.text}
        with speech_file(file, pipeline.sample_rate, facts, overwrite=overwrite) as writer:
            for chunk in chunks:
                writer.write(chunk.audio)
        seconds.append(round(writer.samples / pipeline.sample_rate, 3))
        if not (quiet or as_json):
            print(f"{file}  {seconds[-1]:.2f} s  (seed {own})")
            if facts.get("unread"):
                print(f"not read: {', '.join(facts['unread'])}", file=sys.stderr)
    if as_json:
        print(json.dumps({"files": [str(file) for file in files], "seeds": seeds, "seconds": seconds,
                          "sample_rate": pipeline.sample_rate, **pipeline.settings(**options)}))


@evaluate.command("speech")
def evaluate_speech(data: Annotated[Path, typer.Option(help="A .csv with the columns text and split, or a text file "
                                                            "with a sentence a line.")] = Path(
                        "data/speech/hibari_texts.csv"),
                    split: Annotated[str, typer.Option(help="Rows of a .csv to take.")] = "test",
                    limit: Annotated[int | None, typer.Option(help="At most so many sentences, spread evenly.")] = None,
                    peer: Annotated[list[str] | None, typer.Option(help="hibari-tts, flite, espeak-ng or none; all "
                                                                        "that are installed when not given.")] = None,
                    seed: Annotated[int, typer.Option(help="The sentences take the seeds that follow it.")] = 0,
                    speed: Annotated[float, typer.Option(help="0.5 to 2.")] = 1.0,
                    steps: Annotated[int | None, typer.Option(help="Solver steps.")] = None,
                    guidance: Annotated[float | None, typer.Option(help="Guidance scale; 1 is none.")] = None,
                    temperature: Annotated[float | None, typer.Option(help="Scale of the initial noise.")] = None,
                    model: ModelOption = "photophone/tiny-speech", device: DeviceOption = "cpu",
                    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for speech.json, "
                                                                "speech.txt and the spoken sentences.")] = None,
                    overwrite: OverwriteOption = False,
                    as_json: JsonOption = False) -> None:
    """WER, defects, DNSMOS and likeness to the training voice of spoken sentences, beside other voices."""
    from photophone.core.files import check_targets
    from photophone.evaluation.peers.speech import VOICES
    from photophone.evaluation.report import format_report, write_report
    from photophone.evaluation.tasks.speech import evaluate_voices, our_voice, read_test_sentences, write_clips
    from photophone.pipelines.text_to_speech import TextToSpeechPipeline

    if output is not None:
        check_targets([output / "speech.json", output / "speech.txt"], overwrite)
    sentences = read_test_sentences(data, split, limit)
    peers = choose_peers(VOICES, peer)
    pipeline = load_pipeline(TextToSpeechPipeline, model, device)
    pipeline.set_progress_bar_config(disable=True)
    options = {"speed": speed, "num_inference_steps": steps, "guidance_scale": guidance, "temperature": temperature}
    audio: dict = {}
    result = evaluate_voices({model: our_voice(pipeline, seed, **options), **peers}, sentences,
                             keep=audio if output else None, progress=sys.stderr.isatty())
    result["settings"] = {"data": data.name, "split": split, "seed": seed, **pipeline.settings(**options)}
    if output is not None:
        write_report("speech", result, output, "speech")
        write_clips(result, output, audio)
    print(json.dumps(result) if as_json else format_report("speech", result))
