"""Commands between audio files and files of tokens, and the measuring of codecs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from photophone.cli.common import DeviceOption, JsonOption, OverwriteOption, QuietOption, app
from photophone.cli.evaluate import evaluate
from photophone.cli.token_files import (
    TOKENS_FILE,
    TokensArgument,
    TokensOption,
    WeightsOption,
    check_tokens,
    load_tokens,
    maker_option,
    output_files,
    save_tokens,
)

LONG_SECONDS = 60
CodecOption = Annotated[str, typer.Option("--model", "-m", help="Registered codec, photophone/tiny-speech, or saved "
                                                              "folder.")]
ConfigOption = Annotated[str | None, typer.Option(help="JSON object of settings that differ from the published ones, "
                                                       "or a file with one.")]


@app.command()
def encode(audio: Annotated[list[Path], typer.Argument(help="Audio files; several become one batch.")],
           model: CodecOption, weights: WeightsOption = None, config: ConfigOption = None,
           output: TokensOption = TOKENS_FILE, device: DeviceOption = "cpu", quiet: QuietOption = False,
           overwrite: OverwriteOption = False, as_json: JsonOption = False) -> None:
    """Turn speech into tokens. Models that stream both ways work in chunks; all others are given the whole clip."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    from photophone.data.audio import read_audio
    from photophone.loading.auto import load_part, read_settings

    check_tokens(output, overwrite)
    codec = load_part("codec", model, weights, device, read_settings(config))
    clips = [torch.from_numpy(read_audio(path, codec.sample_rate)[0]) for path in audio]
    longest = max(map(len, clips)) / codec.sample_rate
    if longest > LONG_SECONDS and not codec.streams_encode and not quiet:
        print(f"{model} is given the whole of {longest:.0f} s at once; it cannot be fed in chunks", file=sys.stderr)
    lengths = torch.tensor([len(clip) for clip in clips])
    batch = pad_sequence(clips, batch_first=True)[:, None]
    tokens = codec.encode_long(batch, lengths).to("cpu")
    save_tokens(tokens, model, output, codec.codebook_size, overwrite=overwrite, quiet=quiet, as_json=as_json,
                frame_rate=codec.frame_rate)


@app.command()
def decode(tokens: TokensArgument, model: Annotated[str | None, maker_option("encode")] = None,
           weights: WeightsOption = None, config: ConfigOption = None,
           output: Annotated[str, typer.Option("--output", "-o", help="A folder, or a .wav, .flac, .ogg, .opus or "
                                                                      ".mp3; several get numbers.")] = "speech.wav",
           device: DeviceOption = "cpu", quiet: QuietOption = False, overwrite: OverwriteOption = False,
           as_json: JsonOption = False) -> None:
    """Turn tokens into speech."""
    from photophone.data.audio import write_audio
    from photophone.data.audio_checks import WRITE_FORMATS
    from photophone.data.audio_write import check_format
    from photophone.loading.auto import load_part, read_settings

    given, name = load_tokens(tokens, model)
    files = output_files(output, "speech", len(given), tuple(WRITE_FORMATS), overwrite)
    codec = load_part("codec", name, weights, device, read_settings(config))
    check_format(files[0], codec.output_sample_rate, 1)
    made = []
    for index, file in enumerate(files):
        row = given[index]
        samples = codec.decode_long(row)[0, 0, :int(codec.audio_lengths(row)[0])]
        write_audio(file, samples, codec.output_sample_rate, overwrite=overwrite)
        made.append({"file": str(file), "seconds": round(len(samples) / codec.output_sample_rate, 3)})
        if not (quiet or as_json):
            print(f"{file}  {len(samples) / codec.output_sample_rate:.2f} s at {codec.output_sample_rate} Hz")
    if as_json:
        print(json.dumps({"files": made, "sample_rate": codec.output_sample_rate, "model": name}))


@evaluate.command("codec")
def evaluate_codec(names: Annotated[list[str], typer.Argument(help="Registered codecs or saved folders; "
                                                                   "NAME=PATH gives the weights of a registered one.")],
                   data: Annotated[Path, typer.Option(help="Folder of speech, or parquet files of which those with "
                                                           "'test' in their names are read.")] = Path("data/speech"),
                   limit: Annotated[int, typer.Option(help="Clips, spread over the data.")] = 20,
                   random_weights: Annotated[bool, typer.Option("--random", help="Build codecs without weights at "
                                                                                 "random: a smoke test.")] = False,
                   no_judges: Annotated[bool, typer.Option("--no-judges", help="Without DNSMOS, Whisper and speaker "
                                                                               "similarity.")] = False,
                   output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for codecs.json, "
                                                               "codecs.txt and codecs.png.")] = None,
                   device: DeviceOption = "cpu", overwrite: OverwriteOption = False,
                   as_json: JsonOption = False) -> None:
    """Bits, quality, intelligibility, use of codes and robustness of codecs on test speech."""
    from photophone.core.files import check_targets
    from photophone.evaluation.report import format_report, write_report
    from photophone.evaluation.tasks.codec import evaluate_codecs, read_test_clips
    from photophone.loading.auto import load_part

    if output is not None:
        check_targets([output / f"codecs.{kind}" for kind in ("json", "txt", "png")], overwrite)
    codecs, random = {}, set()
    for name in names:
        model, _, weights = name.partition("=")
        codecs[model] = load_part("codec", model, weights or None, device, random=random_weights and not weights)
        if random_weights and not weights and codecs[model].needs_weights and is_unpublished(model):
            random.add(model)
    clips, repeated = read_test_clips(data, limit)
    result = evaluate_codecs(codecs, clips, repeated=repeated, judges=not no_judges, random=random,
                             progress=sys.stderr.isatty())
    if output is not None:
        from photophone.evaluation.picture import draw_codecs

        write_report("codec", result, output, "codecs")
        draw_codecs(result, output / "codecs.png")
    print(json.dumps(result) if as_json else format_report("codec", result))


def is_unpublished(model: str) -> bool:
    """Whether a name is that of a model class, so that ``--random`` builds it: no built-in and no saved folder."""
    from photophone.loading.registry import REGISTRY

    return model in REGISTRY and REGISTRY[model].folder is None
