"""Commands that speak."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from photophone.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    OverwriteOption,
    QuietOption,
    SettingsOption,
    app,
    check_dtype,
    load_pipeline,
    named_values,
    read_settings,
)
from photophone.cli.evaluate import choose_peers, evaluate
from photophone.cli.speakers import (
    InstructionOption,
    LanguageOption,
    ReferenceOption,
    SecondVoiceOption,
    Speaker,
    VoiceOption,
    VoiceTextOption,
    WeightsOption,
    choose_model,
)
from photophone.core.command import silence_stdout
from photophone.core.limits import MAX_TEXT_CHARACTERS

if TYPE_CHECKING:
    from photophone.pipelines.speech_output import SpeechChunk
    from photophone.pipelines.text_to_speech import TextToSpeechPipeline




@dataclass(frozen=True)
class Order:
    """What the command line asks for; see :func:`speak`."""

    texts: list[str]
    seed: int
    output: str | None
    stream: str | None
    timestamps: Path | None
    explain: bool
    sample_rate: int | None
    sampler: dict[str, Any]
    script: dict[str, Any]
    speaker: Speaker
    quiet: bool
    overwrite: bool
    as_json: bool


@app.command()
def speak(text: Annotated[list[str] | None, typer.Argument(help="What to say; several texts make several files. Text "
                                                           "that begins with a dash goes behind --.")] = None,
          stdin: Annotated[bool, typer.Option("--stdin", help="Read one text in UTF-8 from standard input.")] = False,
          output: Annotated[str | None, typer.Option("--output", "-o", help="A folder, or one .wav, .flac, .ogg, .opus "
                                                     "or .mp3: the name says the format. The folder . when not "
                                                     "given.")] = None,
          stream: Annotated[str | None, typer.Option(help="Write speech to standard output as it is made: 'wav' or "
                                                     "'pcm' (16-bit little-endian mono, no header).")] = None,
          timestamps: Annotated[Path | None, typer.Option(help="Write when each word is said: .json, .srt or "
                                                               ".vtt.")] = None,
          explain: Annotated[bool, typer.Option("--explain", help="Print what is read, its phonemes and times, and "
                                                                  "speak nothing.")] = False,
          sample_rate: Annotated[int | None, typer.Option(help="Hz of what is written; the voice's own when not "
                                                               "given.")] = None,
          speed: Annotated[float, typer.Option(help="0.5 to 2; 1 is the voice's own.")] = 1.0,
          pause: Annotated[float, typer.Option(help="Seconds of silence between sentences.")] = 0.15,
          lexicon: Annotated[Path | None, typer.Option(help="Pronunciations: lines of a word, a tab and its phonemes, "
                                                            "or a .json object.")] = None,
          pronounce: Annotated[list[str] | None, typer.Option(metavar="WORD=PHONEMES", help="A pronunciation, such as "
                                                              "GIF=dʒɪf; may be repeated.")] = None,
          markup: Annotated[bool | None, typer.Option(help="Whether texts are SSML; those that begin with <speak are "
                                                           "when not given.")] = None,
          seed: Annotated[int | None, typer.Option(help="Of the first text; the next take the next seeds. Random when "
                                                   "not given.")] = None,
          steps: Annotated[int | None, typer.Option(help="Solver steps.")] = None,
          guidance: Annotated[float | None, typer.Option(help="Guidance scale; 1 is none.")] = None,
          temperature: Annotated[float | None, typer.Option(help="Scale of the initial noise.")] = None,
          option: SettingsOption = None,
          voice: VoiceOption = None, voice_text: VoiceTextOption = None, voice_reference: ReferenceOption = None,
          second_voice: SecondVoiceOption = None, instruction: InstructionOption = None,
          language: LanguageOption = None, weights: WeightsOption = None,
          model: ModelOption = "photophone/tiny-speech", device: DeviceOption = "cpu", dtype: DtypeOption = "float32",
          quiet: QuietOption = False, overwrite: OverwriteOption = False,
          as_json: JsonOption = False) -> None:
    """Read text aloud; a JSON with all settings is written beside each file. The built-in voice speaks English.

    Files are written as the speech is made and take their name when they are complete. With --stream the seed goes to
    standard error.
    """
    order = Order(gather_texts(text, stdin, stream), int.from_bytes(os.urandom(4), "big") if seed is None else seed,
                  output, stream, timestamps, explain, sample_rate,
                  {"speed": speed, "pause": pause, "guidance_scale": guidance, "temperature": temperature,
                   "num_inference_steps": steps, **further_settings(option)},
                  {"pronounce": pronunciations(lexicon, pronounce), "markup": markup},
                  Speaker(choose_model(model, language), weights, voice, voice_text, voice_reference, second_voice,
                          instruction), quiet, overwrite, as_json)
    check_dtype(dtype)
    carry_out(order, device, dtype)


def further_settings(given: list[str] | None) -> dict[str, Any]:
    """See :func:`read_settings`; nothing is imported for none."""
    if not given:
        return {}
    from photophone.pipelines.text_to_speech import TextToSpeechPipeline

    return read_settings(given, TextToSpeechPipeline.__call__)


def pronunciations(lexicon: Path | None, given: list[str] | None) -> dict[str, str] | None:
    """Those of a file and those of the command line, which come first; None for none.

    Raises:
        ValueError, OSError: see :func:`photophone.text.lexicon.read_lexicon`.
    """
    if lexicon is None and not given:
        return None
    from photophone.text.lexicon import read_lexicon

    return {**(read_lexicon(lexicon) if lexicon is not None else {}), **named_values("--pronounce", given)}


def carry_out(order: Order, device: str, dtype: str) -> None:
    """Speak, or tell what would be spoken; all that can be refused is refused before a model is loaded.

    Raises:
        ValueError, OSError: the order cannot be carried out.
    """
    check_order(order)

    pipeline = order.speaker.load(device, dtype)
    for one in order.texts:
        pipeline.front.check(pipeline.front.script(one, order.script["markup"]).plain)
    pipeline.set_progress_bar_config(disable=True if order.quiet or order.stream else None, unit="sentence",
                                     leave=False)
    if order.explain:
        tell(pipeline, order)
    elif order.stream:
        _stream(pipeline, order)
    else:
        _write(pipeline, order)


def check_order(order: Order) -> None:
    """Refuse options that contradict each other, texts that cannot be read, and files that cannot be written.

    Raises:
        ValueError, OSError: one of these.
    """
    from photophone.data.audio_checks import check_rate
    from photophone.pipelines.timestamps import check_timestamps
    from photophone.text.script import read_script

    if order.stream and (order.output is not None or order.as_json):
        raise ValueError("--stream writes speech to standard output; leave out --output and --json")
    if order.explain and (order.output is not None or order.stream or order.timestamps is not None):
        raise ValueError("--explain speaks nothing; leave out --output, --stream and --timestamps")
    order.speaker.check([read_script(one, order.script["markup"]).plain for one in order.texts])
    if not 0 <= order.seed < 2**63 - len(order.texts):
        raise ValueError(f"--seed must be 0 to {2**63 - 1 - len(order.texts)}, got {order.seed}")
    if order.sample_rate is not None:
        check_rate(order.sample_rate, "--sample-rate")
    if order.timestamps is not None:
        if len(order.texts) > 1:
            raise ValueError(f"--timestamps tells the times of one text, got {len(order.texts)}")
        check_timestamps(order.timestamps, order.overwrite)
        if order.output is not None and Path(order.output).with_suffix(".json") == order.timestamps:
            raise ValueError(f"{order.timestamps} is the name of what lies beside {order.output}; give --timestamps "
                             "another name")
    if not (order.stream or order.explain):
        check_place(order.output or ".", order.texts, order.seed, order.overwrite)


def tell(pipeline: TextToSpeechPipeline, order: Order) -> None:
    """Print what is read of each text: as JSON, or sentence by sentence with the times of words."""
    found = []
    for text in order.texts:
        pieces = pipeline.explain(text, speed=order.sampler["speed"], pause=order.sampler["pause"], **order.script)
        unread = pipeline.front.unread(pipeline.front.script(text, order.script["markup"]).plain)
        found.append({"text": text, "unread": list(unread), "sentences": [piece.facts() for piece in pieces]})
        if order.as_json:
            continue
        for piece in pieces:
            print(f"{piece.text}\n{piece.phonemes}")
            for word in piece.words:
                print(f"{word.start:9.3f} {word.end:9.3f}  {word.text}  {' '.join(one.text for one in word.phonemes)}")
        if unread:
            print(f"not read: {', '.join(unread)}")
    if order.as_json:
        print(json.dumps({"texts": found}, ensure_ascii=False))


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


def _chunks(pipeline: TextToSpeechPipeline, order: Order, text: str, seed: int) -> Iterator[SpeechChunk]:
    """Speech of a text at the rate that is asked for."""
    import torch

    from photophone.pipelines.speech_output import at_rate

    made = pipeline.stream(text, generator=torch.Generator().manual_seed(seed),
                           voice=order.speaker.voice_for(pipeline), instruction=order.speaker.instruction,
                           **order.script, **order.sampler)
    return at_rate(made, pipeline.sample_rate, order.sample_rate)


def _keep_times(pipeline: TextToSpeechPipeline, order: Order, facts: dict[str, Any]) -> None:
    """Write when each word is said, where that is asked for; the times follow from the text alone."""
    if order.timestamps is None:
        return
    from photophone.pipelines.timestamps import write_timestamps

    (text,) = order.texts
    pieces = pipeline.explain(text, speed=order.sampler["speed"], pause=order.sampler["pause"], **order.script)
    write_timestamps(order.timestamps, pieces, facts, overwrite=order.overwrite)


def _stream(pipeline: TextToSpeechPipeline, order: Order) -> None:
    from photophone.data.audio_write import pcm16, stream_header

    (text,), rate = order.texts, order.sample_rate or pipeline.sample_rate
    chunks = _chunks(pipeline, order, text, order.seed)
    _keep_times(pipeline, order, pipeline.facts(text, order.seed, **order.script, **order.sampler))
    if not order.quiet:
        print(f"seed {order.seed}, {rate} Hz", file=sys.stderr)
    out = sys.stdout.buffer
    try:
        if order.stream == "wav":
            out.write(stream_header(rate))
        for chunk in chunks:
            out.write(pcm16(chunk.audio).tobytes())
            out.flush()
    except BrokenPipeError:  # the player was closed: nothing is wrong
        chunks.close()
        silence_stdout()


def _write(pipeline: TextToSpeechPipeline, order: Order) -> None:
    from photophone.pipelines.speech_output import speech_file, speech_files

    rate, seconds = order.sample_rate or pipeline.sample_rate, []
    seeds = [order.seed + index for index in range(len(order.texts))]
    files = speech_files(order.output or ".", order.texts, seeds, rate, overwrite=order.overwrite)
    for file, text, own in zip(files, order.texts, seeds):
        chunks = _chunks(pipeline, order, text, own)
        facts = {**pipeline.facts(text, own, **order.script, **order.sampler), "sample_rate": rate}
        facts |= order.speaker.facts(pipeline)
        with speech_file(file, rate, facts, overwrite=order.overwrite) as writer:
            for chunk in chunks:
                writer.write(chunk.audio)
        _keep_times(pipeline, order, facts)
        seconds.append(round(writer.samples / rate, 3))
        if not (order.quiet or order.as_json):
            print(f"{file}  {seconds[-1]:.2f} s  (seed {own})")
            if facts.get("unread"):
                print(f"not read: {', '.join(facts['unread'])}", file=sys.stderr)
    if order.as_json:
        print(json.dumps({"files": [str(file) for file in files], "seeds": seeds, "seconds": seconds,
                          "sample_rate": rate, **pipeline.settings(**order.sampler)}))


@evaluate.command("speech")
def evaluate_speech(data: Annotated[Path, typer.Option(help="A .csv with the columns text and split, or a text file "
                                                            "with a sentence a line.")] = Path(
                        "data/speech/hibari_texts.csv"),
                    split: Annotated[str, typer.Option(help="Rows of a .csv to take.")] = "test",
                    limit: Annotated[int | None, typer.Option(help="At most so many sentences, spread evenly.")] = None,
                    peer: Annotated[list[str] | None, typer.Option(help="hibari-tts, flite, espeak-ng, pico or "
                                                                        "none; all that are installed when not "
                                                                        "given.")] = None,
                    seed: Annotated[int, typer.Option(help="The sentences take the seeds that follow it.")] = 0,
                    speed: Annotated[float, typer.Option(help="0.5 to 2.")] = 1.0,
                    steps: Annotated[int | None, typer.Option(help="Solver steps.")] = None,
                    guidance: Annotated[float | None, typer.Option(help="Guidance scale; 1 is none.")] = None,
                    temperature: Annotated[float | None, typer.Option(help="Scale of the initial noise.")] = None,
                    reader: Annotated[Path | None, typer.Option(help="Recordings of the person whose voice it should "
                                                                     "be, to be measured against.")] = None,
                    voice: Annotated[list[str] | None, typer.Option(help="Name of a voice of the model, or a mixture "
                                                                         "such as emma=2,george=1; several are "
                                                                         "measured one after the other.")] = None,
                    teacher: Annotated[list[str] | None, typer.Option(help="For each --voice, in their order, the "
                                                                           "voice that it learned from: heart, or one "
                                                                           "of Kokoro's; measured beside it.")] = None,
                    kokoro: Annotated[Path | None, typer.Option(help="Folder of scripts/install_kokoro.py, for "
                                                                     "teachers of Kokoro.")] = None,
                    model: ModelOption = "photophone/tiny-speech", device: DeviceOption = "cpu",
                    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for speech.json, "
                                                                "speech.txt and the spoken sentences.")] = None,
                    overwrite: OverwriteOption = False,
                    as_json: JsonOption = False) -> None:
    """WER, defects, DNSMOS and likeness to the training voice of spoken sentences, beside other voices."""
    from photophone.core.files import check_targets
    from photophone.evaluation.peers.speech import VOICES
    from photophone.evaluation.peers.speech import teacher as find_teacher
    from photophone.evaluation.report import format_report, write_report
    from photophone.evaluation.tasks.speech import evaluate_voices, our_voice, read_test_sentences, write_clips
    from photophone.pipelines.text_to_speech import TextToSpeechPipeline

    if output is not None:
        check_targets([output / "speech.json", output / "speech.txt"], overwrite)
    sentences = read_test_sentences(data, split, limit)
    peers = choose_peers(VOICES, peer)
    if teacher and len(teacher) != len(voice or []):
        raise ValueError(f"{len(teacher)} --teacher for {len(voice or [])} --voice; give one for each")
    known = {name: find_teacher(name, kokoro) for name in dict.fromkeys(teacher or [])}
    pipeline = load_pipeline(TextToSpeechPipeline, model, device)
    pipeline.set_progress_bar_config(disable=True)
    options = {"speed": speed, "num_inference_steps": steps, "guidance_scale": guidance, "temperature": temperature}
    audio: dict = {}
    ours = {model: None} if voice is None else {f"{model} {name}": name for name in voice}
    voices = {row: our_voice(pipeline, seed, voice=name, **options) for row, name in ours.items()}
    likes = dict(zip(ours, [known[name] for name in teacher or []]))
    spoken = {f"teacher {name}": speak for name, speak in known.items()}
    result = evaluate_voices({**voices, **spoken, **peers}, sentences, keep=audio if output else None,
                             progress=sys.stderr.isatty(), reader=reader,
                             teachers={**likes, **spoken})
    named = {} if voice is None else {"voice": voice}
    result["settings"] = {"data": data.name, "split": split, "seed": seed, **named, **pipeline.settings(**options)}
    if output is not None:
        write_report("speech", result, output, "speech")
        write_clips(result, output, audio)
    print(json.dumps(result) if as_json else format_report("speech", result))
