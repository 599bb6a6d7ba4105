"""Where libraries do what few expect: what they do, in the versions of docs/surprises.md, and what is right here.

A library test is skipped in another version than the one that was looked at: the table then has to be looked at again.
"""

import io
import re
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
import transformers

from photophone.data.audio import read_audio
from photophone.demo.parts import to_pcm
from photophone.kernels.few_rows import quantize_rows
from photophone.layers import flow
from photophone.layers.attention import attend
from photophone.loading.registry import find
from photophone.training.loop.config import TrainConfig
from photophone.training.loop.optim import Ema, learning_rate

ROOT = Path(__file__).parents[1]
TABLE = (ROOT / "docs" / "surprises.md").read_text(encoding="utf-8")


def seen(package, version):
    """Skip where another version is installed, or none."""
    try:
        installed = metadata.version(package)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    if installed.split("+")[0] != version:
        pytest.skip(f"{package} {installed} is not the version that was looked at, {version}")


def test_every_line_of_the_table_names_what_holds_it():
    rows = [line.split("|")[1:-1] for line in TABLE.splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 24
    for what, version, source, touched, held in rows:
        assert what.strip() and re.search(r"\d", version) and source.strip() and touched.strip()
        for path, name in re.findall(r"`((?:tests|findings)/[\w/.]+)(?:::(\w+))?`", held):
            assert (ROOT / path).is_file(), path
            assert not name or f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), name
        assert re.search(r"`(?:tests|findings)/", held), what


@torch.no_grad()
def test_mimi_of_transformers_decodes_each_chunk_anew():
    """Its cache holds keys and values only; old names of it are taken and ignored. Ours streams to the whole."""
    seen("transformers", "5.24.0")
    torch.manual_seed(0)
    model = transformers.MimiModel(transformers.MimiConfig(**find("mimi-8").tiny["settings"])).eval()
    for name, buffer in model.named_buffers():
        if name.endswith("embed_sum"):
            buffer.copy_(torch.randn_like(buffer))
    codes = torch.randint(0, model.config.codebook_size, (1, model.config.num_quantizers, 8))
    whole, parts, cache = model.decode(codes).audio_values, [], None
    for start in range(0, 8, 4):
        made = model.decode(codes[..., start:start + 4], decoder_cache=cache, use_cache=True)
        parts.append(made.audio_values)
        cache = made.decoder_cache
    chunks = torch.cat(parts, dim=-1)
    assert chunks.shape == whole.shape and (chunks - whole).abs().max() > 0.01 * whole.abs().max()
    old = model.decode(codes[..., 4:], decoder_past_key_values=cache, use_cache=True).audio_values
    fresh = model.decode(codes[..., 4:], use_cache=True).audio_values
    assert torch.equal(old, fresh)  # the old name of the cache is dropped in silence


@torch.no_grad()
def test_xcodec2_of_transformers_has_no_positions_in_time():
    """As the official code has it: rotary angles follow the number of the head, so frames may be permuted."""
    seen("transformers", "5.24.0")
    from transformers.models.xcodec2 import modeling_xcodec2 as source
    torch.manual_seed(0)
    config = transformers.Xcodec2Config(hidden_size=32, num_attention_heads=4, num_key_value_heads=4,
                                        intermediate_size=32, num_hidden_layers=1)
    attention = source.Xcodec2Attention(config, layer_idx=0).eval()
    heads = torch.arange(config.num_attention_heads)[None]
    x = torch.randn(1, 6, 32)
    angles = source.Xcodec2RotaryEmbedding(config=config)(x, heads)
    order = torch.randperm(6)
    made = attention(x, position_embeddings=angles)[0]
    assert torch.allclose(attention(x[:, order], position_embeddings=angles)[0], made[:, order], atol=1e-6)


@torch.no_grad()
def test_vibevoice_samples_and_drops_what_fills_no_stride():
    seen("transformers", "5.24.0")
    torch.manual_seed(0)
    config = transformers.VibeVoiceAcousticTokenizerConfig(hidden_size=4, num_filters=2, downsampling_ratios=[2, 4],
                                                           depths=[1, 1, 1])
    model = transformers.VibeVoiceAcousticTokenizerModel(config).eval()
    audio = torch.randn(1, 1, 8 * 5 + 7)
    first, second = (model.encode(audio).latents for _ in range(2))
    assert not torch.equal(first, second)  # in eval mode
    whole = model.encode(audio, sample=False).latents
    assert torch.equal(whole, model.encode(audio, sample=False).latents)
    assert model.decode(whole).audio.shape[-1] == 8 * 5  # 7 samples are gone


@torch.no_grad()
def test_encodec_at_48_khz_scales_over_padding():
    seen("transformers", "5.24.0")
    torch.manual_seed(0)
    config = transformers.EncodecConfig(
        sampling_rate=480, audio_channels=2, normalize=True, chunk_length_s=1.0, overlap=0.01, num_filters=4,
        hidden_size=16, codebook_size=16, codebook_dim=16, upsampling_ratios=[4, 2], num_lstm_layers=1,
        target_bandwidths=[0.96], use_causal_conv=False, norm_type="time_group_norm")
    model = transformers.EncodecModel(config).eval()
    audio, mask = torch.randn(1, 2, 240), torch.ones(1, 2, 240)
    alone = model.encode(audio, mask).audio_scales[0]
    padded = model.encode(F.pad(audio, (0, 240)), F.pad(mask, (0, 240))).audio_scales[0]
    assert float(padded / alone) == pytest.approx(0.5**0.5, abs=0.01)  # half of the chunk is silence that nobody said


@torch.no_grad()
@pytest.mark.parametrize(("rates", "missing"), [([8, 5, 4, 2], 8), ([8, 8, 4, 2], 0)])
def test_dac_with_an_odd_rate_returns_less(rates, missing):
    seen("transformers", "5.24.0")
    torch.manual_seed(0)
    config = transformers.DacConfig(encoder_hidden_size=4, downsampling_ratios=rates[::-1], decoder_hidden_size=64,
                                    upsampling_ratios=rates, n_codebooks=2, codebook_size=16, codebook_dim=4)
    model = transformers.DacModel(config).eval()
    found = model.encode(torch.randn(1, 1, 12 * config.hop_length))
    assert found.audio_codes.shape[-1] == 12
    made = model.decode(found.quantized_representation).audio_values
    assert 12 * config.hop_length - made.shape[-1] == missing


def test_flow_schedulers_shift_twice_or_once_and_end_or_do_not():
    seen("diffusers", "0.42.1")
    from diffusers import EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler

    def shifted(sigma):
        return 3 * sigma / (1 + 2 * sigma)

    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(4)
    twice = shifted(torch.linspace(1, shifted(1 / 1000), 4))
    assert torch.allclose(scheduler.sigmas, F.pad(twice, (0, 1)), atol=1e-6)
    scheduler.set_timesteps(sigmas=[1.0, 0.5])
    assert scheduler.sigmas.tolist() == [1.0, 0.75, 0.0]
    plain = EulerDiscreteScheduler()
    plain.set_timesteps(3)
    assert plain.sigmas[-1] == 0
    plain.set_timesteps(sigmas=[10.0, 5.0, 1.0])
    assert plain.sigmas.tolist() == [10.0, 5.0, 1.0] and len(plain.timesteps) == 2  # noise of 1.0 is left


def test_our_time_grids_shift_once_and_reach_both_ends():
    times = flow.time_grid(4, shift=3.0)
    assert times[0] == 1 and times[-1] == 0
    noise = torch.linspace(1, 0, 5, dtype=torch.float64)
    assert torch.allclose(times, 3 * noise / (1 + 2 * noise))


def test_gradio_scales_floats_to_full_level_and_ours_does_not():
    seen("gradio", "6.31.0")
    from gradio.processing_utils import convert_to_16_bit_audio
    quiet = np.array([0.01, -0.005], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert convert_to_16_bit_audio(quiet)[0] == 32767
    assert convert_to_16_bit_audio(to_pcm(quiet, 16000)[1]).tolist() == [328, -164]


def test_gradio_reads_kinds_of_wav_as_their_own_types(tmp_path):
    seen("gradio", "6.31.0")
    import soundfile
    from gradio.processing_utils import audio_from_file
    sound, kinds = np.full(100, 0.5), {}
    for subtype in ("PCM_16", "PCM_32", "PCM_U8"):
        soundfile.write(tmp_path / "a.wav", sound, 16000, subtype=subtype)
        kinds[subtype] = audio_from_file(str(tmp_path / "a.wav"))[1]
    assert {name: values.dtype.name for name, values in kinds.items()} == {
        "PCM_16": "int16", "PCM_32": "int32", "PCM_U8": "int8"}


def test_accelerate_reads_one_batch_ahead():
    seen("accelerate", "1.15.0")
    from accelerate import Accelerator
    from torch.utils.data import DataLoader, Dataset

    class Counted(Dataset):
        read = 0

        def __len__(self):
            return 6

        def __getitem__(self, index):
            Counted.read += 1
            return index

    plain, prepared = [], []
    for loader, counts in ((DataLoader(Counted()), plain), (Accelerator(cpu=True).prepare(DataLoader(Counted())),
                                                            prepared)):
        Counted.read = 0
        counts += [Counted.read for _ in loader]
    assert plain == [1, 2, 3, 4, 5, 6] and prepared == [2, 3, 4, 5, 6, 6]


def test_warm_up_of_timm_misses_the_rate_and_ours_reaches_it():
    seen("timm", "1.0.31")
    from timm.scheduler import CosineLRScheduler

    def highest(prefix):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = CosineLRScheduler(optimizer, t_initial=20, warmup_t=5, warmup_prefix=prefix)
        rates = []
        for step in range(20):
            schedule.step(step)
            rates.append(optimizer.param_groups[0]["lr"])
        return max(rates)

    assert highest(False) < 0.9 and highest(True) == 1.0
    config = TrainConfig(data="none", steps=20, warmup_steps=5, learning_rate=1.0)
    assert max(learning_rate(step, config) for step in range(20)) == 1.0


def test_float8_casts_saturate_infinity():
    seen("torch", "2.14.1")
    values = torch.tensor([float("inf"), -float("inf"), 1e6, float("nan")])
    assert values.to(torch.float8_e4m3fn).float()[:3].tolist() == [448, -448, 448]
    assert values.to(torch.float8_e5m2).float()[:3].tolist() == [float("inf"), -float("inf"), float("inf")]
    assert values.to(torch.float8_e4m3fnuz).float()[:3].isnan().all()


def test_attention_of_a_row_that_sees_nothing():
    seen("torch", "2.14.1")
    torch.manual_seed(0)
    module = torch.nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x, hidden = torch.randn(2, 3, 8), torch.tensor([[False] * 3, [True] * 3])
    assert module(x, x, x, key_padding_mask=hidden, need_weights=False)[0].isfinite().all()
    with torch.no_grad():
        assert module(x, x, x, key_padding_mask=hidden, need_weights=False)[0][1].isnan().all()


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_our_attention_of_a_row_that_sees_nothing_is_zero(gradients, dtype):
    q, k, v = torch.randn(3, 2, 2, 4, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    mask = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    mask[1] = False
    q.requires_grad_(gradients)
    made = attend(q, k, v, mask)
    assert (made[1] == 0).all() and made.isfinite().all()
    if gradients:
        made.sum().backward()
        assert q.grad.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("name", ["dac-44khz", "mimi-8", "encodec-24khz-6kbps", "stream-codec"])
def test_our_codecs_decode_alike_twice(name):
    """snac draws noise in its decoder in eval mode as well: findings/snac_draws_noise_in_eval.sh."""
    from photophone import create_model
    torch.manual_seed(0)
    model = create_model(name, **find(name).tiny).eval()
    tokens = model.encode(0.1 * torch.randn(1, 1, 4 * model.hop_length))
    assert torch.equal(model.decode(tokens), model.decode(tokens))


def test_our_averages_hold_buffers():
    """diffusers' EMAModel saves buffers that were never trained: findings/diffusers_ema_saves_untrained_buffers.sh."""
    model = torch.nn.BatchNorm1d(2)
    average = Ema(model, decay=0.5)
    model(torch.randn(64, 2, generator=torch.Generator().manual_seed(0)) + 5)
    average.update(model, 100)
    half = model.running_mean / 2  # it began at zero
    average.swap(model)
    assert torch.allclose(model.running_mean, half) and model.num_batches_tracked == 1


def test_our_int8_weights_have_a_scale_for_each_output():
    weight = torch.randn(32, 16, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 1, 32)[:, None]
    values, scale = quantize_rows(weight)
    error = (values * scale[:, None] - weight).abs().amax(1) / weight.abs().amax(1)
    assert scale.shape == (32,) and error.max() < 0.005


class Pipe:
    """What can only be written on."""

    def __init__(self):
        self.content = b""

    def write(self, part):
        self.content += bytes(part)
        return len(part)


@pytest.mark.parametrize("form, codec, options", [("mp3", "libmp3lame", {"q": "4", "flags": "+qscale"}),
                                                  ("flac", "flac", {})])
def test_files_that_were_written_into_pipes_are_read_to_their_end(form, codec, options):
    av = pytest.importorskip("av")
    tone = (8000 * np.sin(2 * np.pi * 220 * np.arange(72000) / 24000)).astype(np.int16)
    pipe = Pipe()
    with av.open(pipe, "w", format=form) as file:
        stream = file.add_stream(codec, rate=24000, layout="mono", options=options)
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=24000, frame_size=1152)
        frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
        frame.rate = 24000
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            for packet in stream.encode(part):
                file.mux(packet)
        for packet in stream.encode(None):
            file.mux(packet)
    assert soundfile.info(io.BytesIO(pipe.content)).frames != len(tone)  # what it says of itself
    audio, rate = read_audio(pipe.content)
    assert rate == 24000 and len(tone) <= len(audio) < len(tone) + 4 * 1152
