"""SpeechEnhancementPipeline with LLaSE-G1: its three networks, five tasks, long recordings, files, refusals."""

import json

import numpy as np
import pytest
import torch
from tiny import shake
from torch.nn import functional

from photophone import LLaSEEnhancer, SpeechEnhancementPipeline, create_model
from photophone.codecs.xcodec2.model import ENCODERS, XCodec2
from photophone.core.noise import GlobalNoise
from photophone.core.tokens import Tokens
from photophone.generators.llase_g1.model import TASKS, LLaSESampler, RecordingFeatures
from photophone.generators.llase_g1.wavlm import WavLM
from photophone.loading.registry import find
from photophone.pipelines import speech_enhancement

TINY = find("llase-enhancer").tiny
SIZES = {name: TINY[f"{name}_config"] for name in ("wavlm", "llase", "codec")}
CODEC = SIZES["codec"]


@pytest.fixture(scope="module")
def enhancer():
    torch.manual_seed(0)
    return shake(LLaSEEnhancer(**TINY), scale=0.1)


@pytest.fixture(scope="module")
def pipeline(enhancer):
    return SpeechEnhancementPipeline(enhancer)


def sound(seconds, rows=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(round(16000 * seconds)) / 16000
    tones = torch.sin(2 * torch.pi * (100 + 300 * torch.rand(rows, 1, 1, generator=generator)) * time)
    return 0.2 * tones + 0.02 * torch.randn(rows, 1, len(time), generator=generator)


@torch.no_grad()
def by_hand(model, audio, other=None, output="other"):
    """One pass of the three networks, whole frames."""
    field = model.wavlm.receptive_field - model.wavlm.hop_length
    features, told = (None if given is None else model.wavlm(functional.pad(given[:, 0], (0, field)))
                      for given in (audio, other))
    codes = model.llase.generate(RecordingFeatures(features, told), noise=GlobalNoise(),
                                 sampler=LLaSESampler(output=output)).values
    return model.codec.decode(Tokens(codes))


def test_enhancing_is_one_pass_of_the_second_output_at_the_level_of_the_recording(enhancer):
    audio = sound(0.2, rows=2)
    peak = audio.abs().amax(-1, keepdim=True)
    made = enhancer.enhance(audio)
    torch.testing.assert_close(made, peak * by_hand(enhancer, audio / peak), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(enhancer.enhance(0.1 * audio), 0.1 * made, rtol=1e-3, atol=1e-6)
    odd = enhancer.enhance(audio[..., :-77])
    assert odd.shape == audio[..., :-77].shape and bool(odd.isfinite().all())
    assert float(enhancer.enhance(torch.zeros(1, 1, 900)).abs().max()) < 1e-6


def test_the_sister_tasks_use_their_inputs_and_outputs(enhancer):
    audio, other = sound(0.2), sound(0.12, seed=1)
    peak = audio.abs().max()
    extracted = enhancer.process(audio, other, task="extract")
    torch.testing.assert_close(extracted, by_hand(enhancer, audio, other, "main"), rtol=1e-4, atol=1e-6)
    echo = enhancer.process(audio, other, task="cancel_echo")  # both are cut to the shorter, silence fills up
    torch.testing.assert_close(echo[..., :1920], by_hand(enhancer, audio[..., :1920], other), rtol=1e-4, atol=1e-6)
    assert echo.shape == audio.shape and not echo[..., 1920:].any()
    first = by_hand(enhancer, audio / peak)
    second = by_hand(enhancer, audio / peak, first)
    torch.testing.assert_close(enhancer.process(audio, task="separate"), peak * second, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(enhancer.process(audio, task="conceal", passes=2), peak * by_hand(enhancer, first),
                               rtol=1e-4, atol=1e-6)
    assert set(TASKS) == {"enhance", "conceal", "separate", "cancel_echo", "extract"}


def test_a_batch_equals_its_rows(enhancer):
    audio = sound(0.2, rows=3)
    both = enhancer.enhance(audio)
    for row in range(3):
        torch.testing.assert_close(both[row:row + 1], enhancer.enhance(audio[row:row + 1]), rtol=1e-4, atol=1e-6)


def test_the_pipeline_enhances_recordings_of_any_rate_and_channels(pipeline):
    stereo = np.concatenate([sound(0.3, seed=2)[0], sound(0.3, seed=3)[0]]).astype(np.float32)
    result = pipeline([stereo, stereo[0]], 16000)
    assert [audio.shape for audio in result.audio] == [(2, 4800), (4800,)]
    np.testing.assert_allclose(result.audio[0][0], result.audio[1], atol=2e-2)  # the level is that of both channels
    (wide,) = pipeline(stereo[0], 48000).audio
    assert wide.shape == stereo[0].shape and np.isfinite(wide).all() and wide.std() > 0


def test_pieces_of_long_recordings_are_blended(pipeline, monkeypatch):
    monkeypatch.setattr(speech_enhancement, "PIECE_SECONDS", 2)
    audio = sound(5.0)[0, 0].numpy()
    blended = pipeline(audio, 16000).audio[0]
    monkeypatch.setattr(type(pipeline.enhancer), "fade_seconds", 0.0)
    cut = pipeline(audio, 16000).audio[0]
    fade = round(0.02 * 16000)
    changed = np.flatnonzero(blended != cut)
    assert all(2 * 16000 <= place < 2 * 16000 + fade or 4 * 16000 <= place < 4 * 16000 + fade for place in changed)
    assert len(changed) > fade


def test_blending_goes_from_the_neighbour_to_the_piece():
    made = speech_enhancement.blend(torch.ones(2, 3), torch.zeros(2, 5))
    torch.testing.assert_close(made, torch.tensor([[0.75, 0.5, 0.25, 0, 0]]).expand(2, -1))
    assert torch.equal(speech_enhancement.blend(torch.zeros(1, 0), made), made)


@pytest.mark.parametrize(("call", "words"), [
    ({"task": "sing"}, "task must be one of enhance"), ({"task": "extract"}, "extract needs a second recording"),
    ({"other": torch.zeros(1, 1, 9)}, "enhance has no second recording"), ({"passes": 9}, "takes 1 to 8 passes"),
    ({"task": "separate", "passes": 1}, "takes 2 to 8"), ({"audio": torch.zeros(1, 2, 9)}, r"\(B, 1, T\)")])
def test_misuse_is_refused(enhancer, call, words):
    with pytest.raises(ValueError, match=words):
        enhancer.process(**{"audio": sound(0.1), **call})


def test_parts_that_do_not_fit_are_refused():
    for name, change, words in (("llase", {"num_codes": 65}, "num_codes=65, but the parts beside it 64"),
                                ("llase", {"feature_dim": 9}, "feature_dim=9"),
                                ("codec", {"ratios": (2, 5)}, "a code each 10")):
        with pytest.raises(ValueError, match=words):
            LLaSEEnhancer(**{f"{part}_config": {**sizes, **(change if part == name else {})}
                             for part, sizes in SIZES.items()})


def published(folder):
    """Files of the three networks: WavLM in the hub's names, the others as models of ours."""
    torch.manual_seed(1)
    wavlm, llase, codec = (shake(create_model(name, **{**find(name).tiny, **change}), scale=0.1) for name, change in
                           (("wavlm-large-layer6", {}), ("llase-g1", {}), ("xcodec2", {"levels": [4, 4, 4]})))
    state = {f"wavlm.{key.removeprefix('network.')}": value for key, value in wavlm.state_dict().items()}
    renamed = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for ours, theirs in renamed.items():
        state = {key.replace(ours, theirs): value for key, value in state.items()}
    unused = {"wavlm.masked_spec_embed": torch.ones(16), "wavlm.encoder.layer_norm.weight": torch.ones(16),
              "wavlm.encoder.layers.2.layer_norm.weight": torch.ones(16)}
    torch.save(state | unused, folder / "pytorch_model.bin")
    llase.save_pretrained(folder / "llase")
    torch.save({key.removeprefix("codec."): value for key, value in codec.state_dict().items()}, folder / "codec.ckpt")
    return LLaSEEnhancer.from_parts(wavlm, llase, codec)


def test_original_files_make_the_same_and_survive_saving(tmp_path):
    expected = published(tmp_path)
    pipeline = SpeechEnhancementPipeline.from_original(
        "llase-g1", wavlm=tmp_path / "pytorch_model.bin", llase=tmp_path / "llase", codec=tmp_path / "codec.ckpt",
        configs={"wavlm": find("wavlm-large-layer6").tiny, "codec": CODEC})
    audio = sound(0.2)
    assert torch.equal(pipeline.enhancer.enhance(audio), expected.enhance(audio))
    assert pipeline.enhancer.codec.config.decodes_only and pipeline.enhancer.reach == 32000
    result = pipeline(audio[0, 0].numpy(), 16000)
    assert result.model == "llase-g1" and "CC-BY-NC-4.0" in result.weights_licence
    pipeline.save_pretrained(tmp_path / "saved")
    index = json.loads((tmp_path / "saved" / "model_index.json").read_text())
    assert index["enhancer"] == ["photophone", "LLaSEEnhancer"]
    again = SpeechEnhancementPipeline.from_pretrained(tmp_path / "saved")
    assert np.array_equal(again(audio[0, 0].numpy(), 16000).audio[0], result.audio[0])
    with pytest.raises(ValueError, match="no checkpoint named gpt; it is made of wavlm, llase, codec"):
        SpeechEnhancementPipeline.from_original("llase-g1", gpt="x")


def test_a_codec_that_only_decodes_has_no_encoders():
    torch.manual_seed(0)
    whole = shake(XCodec2(**CODEC))
    part = XCodec2.from_original(whole.state_dict(), **CODEC, decodes_only=True)
    codes = torch.randint(0, 64, (2, 7))
    assert torch.equal(part.decode(Tokens(codes)), whole.decode(Tokens(codes)))
    assert not [key for key in part.state_dict() if key.split(".")[1] in ENCODERS]
    with pytest.raises(ValueError, match="only decodes"):
        part.encode(sound(0.1))


def test_the_field_and_hop_of_wavlm_large():
    with torch.device("meta"):
        model = WavLM(depth=1)
    assert model.hop_length == 320 and model.receptive_field == 400
    assert int(model.frames(torch.tensor([400 + 9 * 320]))) == 10
