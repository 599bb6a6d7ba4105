"""Spectral layers against torch, torchaudio and closed forms."""

import pytest
import torch
import torchaudio
from torch.nn import functional

from photophone.layers.istft import ISTFT, ISTFTHead
from photophone.layers.lengths import length_mask, reflect_pad
from photophone.layers.mel import MelSpectrogram, mel_filters
from photophone.layers.streaming import streaming

FRAMES = [(64, 16), (60, 20), (36, 9), (40, 10)]


def analysis(audio, n_fft, hop, padding):
    """Spectra whose frames lie as ``padding`` says, zeros outside the signal."""
    side = {"center": (n_fft // 2, n_fft // 2), "same": ((n_fft - hop) // 2, (n_fft - hop) - (n_fft - hop) // 2),
            "start": (0, n_fft - hop)}[padding]
    frames = functional.pad(audio, side).unfold(-1, n_fft, hop)
    return torch.fft.rfft(frames * torch.hann_window(n_fft)).transpose(1, 2)


def noise(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("n_fft, hop", FRAMES)
def test_centred_synthesis_is_torchs(n_fft, hop):
    spectrum = torch.complex(noise(2, n_fft // 2 + 1, 9), noise(2, n_fft // 2 + 1, 9).flip(0))
    layer = ISTFT(n_fft, hop)
    torch.testing.assert_close(layer.window, torch.hann_window(n_fft), rtol=0, atol=1e-6)
    expected = torch.istft(spectrum, n_fft, hop, window=layer.window.double(), center=True)
    torch.testing.assert_close(layer(spectrum), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n_fft, hop", FRAMES)
@pytest.mark.parametrize("padding", ["center", "same", "start"])
def test_synthesis_gives_back_what_was_analysed(n_fft, hop, padding):
    if padding == "same" and (n_fft - hop) % 2:
        return  # frames cannot lie in the middle of hops
    audio = noise(2, 12 * hop)
    made = ISTFT(n_fft, hop, padding)(analysis(audio, n_fft, hop, padding))
    assert made.shape == audio.shape
    fade = n_fft - hop if padding == "start" else 0
    torch.testing.assert_close(made[:, fade:], audio[:, fade:], rtol=0, atol=1e-6)


def test_chunks_add_up_to_the_whole():
    layer = ISTFT(64, 16, "start")
    spectrum = torch.complex(noise(2, 33, 9), noise(2, 33, 9).flip(1))
    with streaming(layer, 2):
        parts = [layer(part) for part in spectrum.split([1, 2, 1, 5], dim=-1)]
    torch.testing.assert_close(torch.cat(parts, dim=-1), layer(spectrum))
    with pytest.raises(ValueError, match="cannot stream"), streaming(ISTFT(64, 16), 2):
        pass


@pytest.mark.parametrize("padding", ["center", "same", "start"])
def test_rows_that_end_early_are_synthesised_as_alone(padding):
    layer = ISTFT(64, 16, padding)
    spectrum = torch.complex(noise(3, 33, 9), noise(3, 33, 9).flip(1))
    lengths = torch.tensor([9, 4, 6])
    made = layer(spectrum, length_mask(lengths, 9))
    for row, length in enumerate(lengths.tolist()):
        alone = layer(spectrum[row:row + 1, :, :length])[0]
        if padding == "start":  # the tail of its last frames rings on
            torch.testing.assert_close(made[row, :len(alone)], alone)
        else:
            torch.testing.assert_close(made[row], functional.pad(alone, (0, made.shape[1] - len(alone))))


def test_the_head_predicts_magnitude_and_phase():
    torch.manual_seed(0)
    head = ISTFTHead(8, 32, 8, "same").double()
    head.out.bias.data[:17] += torch.linspace(0, 12, 17)  # some reach the limit of the magnitude
    x = noise(2, 5, 8)
    magnitude, phase = head.out(x).float().transpose(1, 2).chunk(2, dim=1)
    spectrum = magnitude.exp().clip(max=100) * (phase.cos() + 1j * phase.sin())
    assert (magnitude.exp() > 100).any()
    torch.testing.assert_close(head(x), head.istft(spectrum), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("wrong, words", [((64, 65), "1 <= hop_length"), ((64, 16, "middle"), "padding must be"),
                                          ((64, 30, "start"), "whole hops"), ((32, 16, "start"), "whole hops")])
def test_impossible_frames_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        ISTFT(*wrong)


MELS = [{"mel_scale": "htk", "norm": None, "power": 1.0}, {"mel_scale": "slaney", "norm": "slaney", "power": 2.0},
        {"mel_scale": "slaney", "norm": "slaney", "power": 1.0, "f_min": 10.0, "f_max": 7000.0, "window_length": 160}]


@pytest.mark.parametrize("given", MELS)
def test_mels_are_torchaudios(given):
    options = dict(given)
    window = options.pop("window_length", 256)
    peer = torchaudio.transforms.MelSpectrogram(16000, 256, window, 80, n_mels=20, **options)
    layer = MelSpectrogram(16000, 256, 80, 20, log=None, clip=None, **given)
    audio = noise(2, 1234, dtype=torch.float32)
    torch.testing.assert_close(layer(audio), peer(audio), rtol=1e-5, atol=1e-4)
    assert int(layer.frames(torch.tensor([1234]))) == layer(audio).shape[-1]
    filters = torchaudio.functional.melscale_fbanks(129, options.get("f_min", 0.0), options.get("f_max", 8000.0), 20,
                                                    16000, options["norm"], options["mel_scale"])
    torch.testing.assert_close(layer.filters, filters, rtol=1e-4, atol=1e-6)


def test_slaney_filters_have_equal_area_and_known_centres():
    filters = mel_filters(16000, 4096, 40, scale="slaney", norm="slaney").double()
    torch.testing.assert_close(filters.sum(0) * 16000 / 4096, torch.ones(40).double(), rtol=2e-2, atol=0)
    # 15 mels lie below 1 kHz at 3 per 200 Hz; the band 0..8 kHz has 15 + 27 ln 8 / ln 6.4 = 45.245 mels.
    centre = 45.2451 / 41 * 200 / 3
    assert float(filters[:, 0].argmax()) * 16000 / 4096 == pytest.approx(centre, abs=4)


@pytest.mark.parametrize("log, clip, expected", [("e", 1e-5, -11.512925), ("10", 1e-5, -5.0), (None, 1e-5, 1e-5),
                                                 (None, None, 0.0)])
def test_silence_is_the_clip(log, clip, expected):
    layer = MelSpectrogram(16000, 256, 64, 8, log=log, clip=clip, padding="same")
    torch.testing.assert_close(layer(torch.zeros(1, 640)), torch.full((1, 8, 10), expected))


def test_casting_a_model_leaves_its_windows_alone():
    layer = MelSpectrogram(16000, 256, 64, 8)
    before = layer.filters.clone(), layer.window.clone()
    layer.to(torch.bfloat16)
    assert torch.equal(layer.filters, before[0]) and torch.equal(layer.window, before[1])
    assert layer(torch.ones(1, 512).bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("padding", ["center", "same", "start"])
def test_mels_of_short_rows_are_those_of_single_ones(padding):
    layer = MelSpectrogram(16000, 256, 64, 8, padding=padding)
    audio, lengths = noise(3, 1024, dtype=torch.float32), torch.tensor([1024, 640, 200])
    audio = torch.where(length_mask(lengths, 1024), audio, 0 if padding == "start" else 0.7)
    made = layer(audio, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = layer(audio[row:row + 1, :length])
        assert alone.shape[-1] == int(layer.frames(torch.tensor([length])))
        torch.testing.assert_close(made[row:row + 1, :, :alone.shape[-1]], alone)


def test_reflection_is_torchs_and_short_rows_grow_by_zeros():
    x = noise(2, 3, 10)
    torch.testing.assert_close(reflect_pad(x, 4, 7), functional.pad(x, (4, 7), mode="reflect"))
    short = torch.tensor([[[1.0, 2.0]]])  # to mirror 3 samples it becomes 1 2 0 0 first, and loses as much behind
    assert reflect_pad(short, 2, 3).tolist() == [[[0.0, 2.0, 1.0, 2.0, 0.0, 0.0, 0.0]]]


def test_unknown_mels_are_refused():
    for wrong, words in [({"mel_scale": "bark"}, "'bark'"), ({"f_max": 9000.0}, "9000"), ({"log": "2"}, "log must be"),
                         ({"window_length": 300}, "300")]:
        with pytest.raises(ValueError, match=words):
            MelSpectrogram(16000, 256, 64, 8, **wrong)
