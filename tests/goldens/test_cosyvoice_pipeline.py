"""TokenToSpeechPipeline from the recorded official checkpoints, and what its users see."""

import json
import shutil
from pathlib import Path

import cosyvoice_parts
import numpy as np
import pytest
import soundfile
import torch
from golden import Golden

from photophone import TokenToSpeechPipeline
from photophone.codecs.hift.model import HiFT
from photophone.core.noise import SeededNoise
from photophone.decoding.loop import DecodingStopped
from photophone.generators.cosyvoice.condition import FlowSampler, SpeechTokens

DATA = Path(__file__).parent / "data"
NAMES = {"cosyvoice": "cosyvoice-300m-flow", "cosyvoice2": "cosyvoice2-0.5b-flow", "cosyvoice3": "cosyvoice3-0.5b-flow"}
FAST = {"num_inference_steps": 2}


def configs(golden):
    """Our configs of the golden flow and vocoder."""
    kind = cosyvoice_parts.version(golden)
    flow = cosyvoice_parts.flow_config(golden.settings[f"flow_{kind}"], kind)
    vocoder = dict(cosyvoice_parts.load_hift(golden).config)
    return flow, {name: value for name, value in vocoder.items() if not name.startswith("_")}


@pytest.fixture(scope="module", params=NAMES)
def case(request, tmp_path_factory):
    """(pipeline from a folder with the published file names, inputs)."""
    golden, folder = Golden(DATA / request.param), tmp_path_factory.mktemp(request.param)
    kind = cosyvoice_parts.version(golden)
    torch.save(golden.state(f"flow_{kind}"), folder / "flow.pt")
    torch.save({f"generator.{key}": value for key, value in golden.state(f"hift_{kind}").items()}, folder / "hift.pt")
    flow, vocoder = configs(golden)
    pipeline = TokenToSpeechPipeline.from_original(NAMES[request.param], folder, flow_config=flow,
                                                   vocoder_config=vocoder)
    pipeline.set_progress_bar_config(disable=True)
    inputs = (golden[f"in_flow_{kind}_token"].long(), golden[f"in_flow_{kind}_embedding"],
              *cosyvoice_parts.prompt(golden).values())
    return pipeline, inputs


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_the_published_folder_speaks_as_its_parts_do(case):
    pipeline, inputs = case
    result = pipeline(*inputs, generator=seeded(3)[0], **FAST)
    tokens, speaker, *prompt = inputs
    frames = pipeline.flow.generate(SpeechTokens(tokens, speaker, None, *prompt), noise=SeededNoise.from_seeds([3]),
                                    sampler=FlowSampler(guidance_scale=1.7, **FAST))
    expected = pipeline.vocoder.decode(frames, noise=SeededNoise.from_seeds([3]))[0, 0]
    np.testing.assert_allclose(result.audio[0], expected.numpy(), atol=1e-6)
    assert result.sample_rate == pipeline.vocoder.sample_rate and result.model in NAMES.values()
    assert result.seeds == [3] and result.settings["guidance_scale"] == 1.7 and not result.settings["fixed_noise"]
    assert result.weights_licence.startswith("Apache-2.0")


def test_without_a_generator_versions_2_and_3_repeat_themselves(case):
    pipeline, inputs = case
    one, two = (pipeline(*inputs, **FAST) for _ in range(2))
    fixed = pipeline.flow.config.fixed_noise
    assert one.settings["fixed_noise"] == fixed == np.array_equal(one.audio[0], two.audio[0])
    again = pipeline(*inputs, generator=seeded(two.seeds[0])[0], **FAST)
    if not fixed:
        np.testing.assert_array_equal(again.audio[0], two.audio[0])


def test_streams_equal_the_whole(case):
    pipeline, (tokens, *voice) = case
    options = {**FAST, "left_chunks": 1} if pipeline.flow.has_chunks else FAST
    chunked = {"chunked": True} if pipeline.flow.has_chunks else {}
    parts = list(pipeline.stream(tokens.split(3, dim=1), *voice, generator=seeded(1)[0], **options))
    (whole,) = pipeline(tokens, *voice, generator=seeded(1)[0], **options, **chunked).audio
    streamed = np.concatenate([part.audio for part in parts])
    assert streamed.shape == whole.shape and all(part.sample_rate == pipeline.sample_rate for part in parts)
    np.testing.assert_allclose(streamed, whole, rtol=1e-3, atol=1e-5)


def test_callbacks_refusals_and_files(case, tmp_path):
    pipeline, inputs = case
    seen = []
    result = pipeline(*inputs, callback_on_step_end=lambda *arguments: seen.append(arguments[1:3]), **FAST)
    assert seen == [(1, 2), (2, 2)]

    def stop(pipe, step, total, _):
        pipe._interrupt = True

    with pytest.raises(DecodingStopped):
        pipeline(*inputs, callback_on_step_end=stop, **FAST)
    for options, words in (({"num_inference_steps": 0}, "num_inference_steps must be 1"),
                           ({"guidance_scale": float("nan")}, "guidance_scale must be"),
                           ({"temperature": 3}, "temperature must be")):
        with pytest.raises(ValueError, match=words):
            pipeline(*inputs, **options)
    (alone,) = pipeline(*inputs, generator=seeded(result.seeds[0])[0] if not result.settings["fixed_noise"] else None,
                        return_dict=False, **FAST)
    np.testing.assert_array_equal(alone[0], result.audio[0])
    (file,) = result.save(tmp_path)
    assert file.name == f"speech-{result.seeds[0]}.wav" and soundfile.info(file).frames == len(result.audio[0])
    facts = json.loads(file.with_suffix(".json").read_text())
    assert facts["model"] in NAMES.values() and facts["num_inference_steps"] == 2


def test_saved_pipelines_speak_alike(case, tmp_path):
    pipeline, inputs = case
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["flow"] == ["photophone", "CosyVoiceFlow"] and index["vocoder"] == ["photophone", "HiFT"]
    again = TokenToSpeechPipeline.from_pretrained(tmp_path)
    one, two = (p(*inputs, generator=seeded(5)[0], **FAST) for p in (pipeline, again))
    assert np.array_equal(one.audio[0], two.audio[0]) and one.model == two.model


def test_wrong_files_are_refused(tmp_path):
    golden = Golden(DATA / "cosyvoice2")
    with pytest.raises(ValueError, match="no checkpoint named gpt; it is made of flow, hift"):
        TokenToSpeechPipeline.from_original("cosyvoice2-0.5b-flow", tmp_path, gpt="x")
    with pytest.raises(ValueError, match="holds no flow.pt"):
        TokenToSpeechPipeline.from_original("cosyvoice2-0.5b-flow", tmp_path)
    with pytest.raises(ValueError, match="use TokenToSpeechPipeline"):
        from photophone import TextToSpeechPipeline
        TextToSpeechPipeline.from_original("cosyvoice2-0.5b-flow", tmp_path)
    shutil.copy(golden.path("hift_v2"), tmp_path / "wrong.safetensors")
    with pytest.raises(ValueError, match="does not fit CosyVoiceFlow"):
        TokenToSpeechPipeline.from_original("cosyvoice2-0.5b-flow", flow=tmp_path / "wrong.safetensors",
                                            hift=tmp_path / "wrong.safetensors", flow_config=configs(golden)[0])
    with pytest.raises(ValueError, match="mel bands"):
        TokenToSpeechPipeline(cosyvoice_parts.load_flow(golden), HiFT(num_mels=16))
