"""StreamCodec sees no further than it says, in both directions, with continuous tokens and with codes."""

import pytest
import torch
from speech import SMALL_CODEC

from photophone.codecs.stream_codec.model import StreamCodec
from photophone.core.tokens import Tokens

BOTTLENECKS = {"continuous": {}, "fsq": {"latent_dim": 5, "quantizer": "fsq",
                                         "quantizer_config": {"levels": [8, 5, 5, 5, 5]}}}


@pytest.fixture(params=BOTTLENECKS)
def codec(request):
    torch.manual_seed(0)
    return StreamCodec(**{**SMALL_CODEC, **BOTTLENECKS[request.param]}).eval()


def test_a_token_sees_its_samples_and_the_rest_of_its_last_window(codec):
    config, tokens = codec.config, 12
    audio = 0.1 * torch.randn(1, 1, tokens * codec.hop_length)
    seen = 6 * codec.hop_length + config.window - config.frame_length
    other = audio.clone()
    other[..., seen:] = 0.3 * torch.randn_like(other[..., seen:])
    one, two = (codec.latents(part) for part in (audio, other))
    torch.testing.assert_close(one[:, :6], two[:, :6], rtol=0, atol=1e-6)
    assert (one[:, 6:] - two[:, 6:]).abs().max() > 1e-4
    other = audio.clone()
    other[..., seen - 20:seen] += 0.3  # not one sample less
    assert (codec.latents(other)[:, 5] - one[:, 5]).abs().max() > 1e-6


def test_decoding_has_no_delay_and_sees_no_later_token(codec):
    tokens = codec.encode(0.1 * torch.randn(1, 1, 12 * codec.hop_length))
    axis = 1 if tokens.is_continuous else -1
    part = Tokens(tokens.values.narrow(axis, 0, 5))
    whole, first = codec.decode(tokens), codec.decode(part)
    assert first.shape[-1] == 5 * codec.hop_length
    torch.testing.assert_close(first, whole[..., :first.shape[-1]], rtol=0, atol=1e-5)
