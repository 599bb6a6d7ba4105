"""What the three CosyVoice systems share: names of settings, and the parts of their adaptors."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from golden import Golden, System

from photophone.codecs.hift.model import HiFT, HiFTStream
from photophone.core.noise import Noise
from photophone.core.tokens import Tokens
from photophone.generators.cosyvoice.chunked import Sight
from photophone.generators.cosyvoice.condition import FlowSampler, SpeechTokens
from photophone.generators.cosyvoice.flow import CosyVoiceFlow
from photophone.generators.cosyvoice.stream import generate_window, stream_mel
from photophone.heads.categorical import draw_nucleus, draw_repetition_aware
from photophone.layers.mel import MelSpectrogram

CONFORMER = {"output_size": "dim", "attention_heads": "num_heads", "linear_units": "hidden", "num_blocks": "depth",
             "key_bias": "key_bias"}
UNET = {"in_channels": "in_channels", "out_channels": "out_channels", "channels": "channels",
        "n_blocks": "num_blocks", "num_mid_blocks": "num_mid_blocks", "num_heads": "num_heads",
        "attention_head_dim": "head_dim", "static_chunk_size": "chunk"}
DIT = {"dim": "dim", "depth": "depth", "heads": "num_heads", "dim_head": "head_dim", "ff_mult": "mlp_ratio",
       "mel_dim": "mel_dim", "mu_dim": "mu_dim", "spk_dim": "speaker_dim", "static_chunk_size": "chunk"}
UNPUBLISHED = {"use_cnn_module": False, "macaron_style": False, "normalize_before": True, "act_fn": "gelu",
               "input_layer": "linear", "pos_enc_layer_type": "rel_pos_espnet", "long_skip_connection": False,
               "selfattention_layer_type": "rel_selfattn", "solver": "euler"}
"""Switches of the official classes that are the same in every published model."""

CACHED = 34
"""Frames at the end of a window that CosyVoice 1 shares with the next one."""


def version(golden: Golden) -> str:
    """"v1", "v2" or "v3"."""
    return next(name.removeprefix("flow_") for name in golden.settings if name.startswith("flow_"))


def pick(settings: dict, names: dict) -> dict:
    for name, value in settings.items():
        if name in UNPUBLISHED and value != UNPUBLISHED[name]:
            raise ValueError(f"{name}={value!r} is in no published CosyVoice, and not in ours")
    return {ours: settings[theirs] for theirs, ours in names.items() if theirs in settings}


def flow_config(settings: dict, kind: str) -> dict:
    """Our arguments of the official ``flow_vN`` settings."""
    args, cfm, estimator = settings["args"], settings["cfm_params"], settings["estimator"]
    pick(cfm, {})
    config = {"vocab_size": args["vocab_size"], "input_dim": args["input_size"], "mel_dim": args["output_size"],
              "speaker_dim": args["spk_embed_dim"], "token_rate": args["input_frame_rate"],
              "frame_ratio": args.get("token_mel_ratio", 2), "sigma_min": cfm["sigma_min"],
              "drop_rate": cfm["training_cfg_rate"],
              "time_schedule": "cosine" if cfm["t_scheduler"] == "cosine" else "linear", "fixed_noise": kind != "v1"}
    if kind == "v3":
        lookahead = settings["lookahead"]
        return config | {
            "encoder": "lookahead", "estimator": "dit", "estimator_config": pick(estimator, DIT),
            "encoder_config": {"ahead": lookahead["pre_lookahead_len"], "hidden": lookahead["channels"]}}
    encoder = pick(settings["encoder"], CONFORMER)
    if kind == "v1":
        regulator = settings["length_regulator"]
        encoder |= {"regulator_depth": len(regulator["sampling_ratios"]), "regulator_groups": regulator["groups"]}
        return config | {"encoder": "regulated", "encoder_config": encoder, "estimator": "unet",
                         "estimator_config": pick(estimator, UNET)}
    encoder |= {"chunk": settings["encoder"]["static_chunk_size"], "ahead": args["pre_lookahead_len"],
                "up_depth": settings.get("num_up_blocks", 4)}
    return config | {"encoder": "upsample", "encoder_config": encoder, "estimator": "unet",
                     "estimator_config": pick(estimator, UNET) | {"causal": True}}


def load_flow(golden: Golden) -> CosyVoiceFlow:
    kind = version(golden)
    flow = golden.load(CosyVoiceFlow, f"flow_{kind}", **flow_config(golden.settings[f"flow_{kind}"], kind))
    official, written = golden.state(f"flow_{kind}"), flow.original_state_dict()
    if written.keys() != official.keys() or any(not torch.allclose(written[key], official[key]) for key in official):
        raise AssertionError(f"flow_{kind} is not written as the authors have it")
    return flow


def sampler(golden: Golden, **options) -> FlowSampler:
    rate = golden.settings[f"flow_{version(golden)}"]["cfm_params"]["inference_cfg_rate"]
    return FlowSampler(guidance_scale=1 + rate, **options)


def estimator(golden: Golden):
    kind, model = version(golden), load_flow(golden).train()  # rows lose their condition in training only
    x, mask, mu, t, speaker, cond = (golden[f"in_flow_{kind}_est_{name}"]
                                     for name in ("x", "mask", "mu", "t", "spks", "cond"))
    chunk = model.velocity_net.chunk
    noise = golden.noise(uniform=[golden[f"in_noise_flow_{kind}_loss_{index}"] for index in (0, 2)],
                         normal=[golden[f"in_noise_flow_{kind}_loss_1"]])
    loss, noised = model.matching_loss(x, mask, mu, speaker, cond, noise, Sight())
    return {f"out_flow_{kind}_estimator": model.velocity_net(x, mask, mu, t, speaker, cond, Sight()),
            f"out_flow_{kind}_estimator_streaming": model.velocity_net(x, mask, mu, t, speaker, cond, Sight(chunk)),
            f"out_flow_{kind}_loss": loss, f"mid_flow_{kind}_loss_y": noised}


def prompt(golden: Golden) -> dict:
    kind = version(golden)
    return {"prompt_tokens": golden[f"in_flow_{kind}_prompt_token"].long(),
            "prompt_mel": golden[f"in_flow_{kind}_prompt_feat"]}


def encoders(golden: Golden):
    kind, model, past = version(golden), load_flow(golden), prompt(golden)
    x = model.embed(torch.cat([past["prompt_tokens"], golden[f"in_flow_{kind}_token"].long()], dim=1))
    encoder = model.token_encoder
    if kind == "v3":
        return {"mid_flow_v3_lookahead": encoder.lookahead(x)}
    return {f"mid_flow_{kind}_encoder": encoder.conformer(x, Sight())}


def frame_noise(golden: Golden, model: CosyVoiceFlow, recorded: torch.Tensor, frames: int) -> Noise:
    """Recorded noise (1, mels, T) in the blocks in which we draw it, as many as ``frames`` need."""
    block = model.noise_block
    whole = math.ceil(frames / block) * block
    padded = F.pad(recorded, (0, max(whole - recorded.shape[-1], 0)))
    return golden.noise(normal=list(padded[:, :, :whole].split(block, dim=2)))


def generate_v1(golden: Golden):
    model, past = load_flow(golden), prompt(golden)
    tokens, vector = golden["in_flow_v1_token"].long(), golden["in_flow_v1_embedding"]
    start = golden["in_noise_flow_v1_z"]

    def noise():
        return frame_noise(golden, model, start, start.shape[-1])

    mel = model.generate(SpeechTokens(tokens, vector, **past), noise=noise(), sampler=sampler(golden))
    window, shared = generate_window(model, tokens, model.speaker(vector), *past.values(), noise(),
                                     sampler=sampler(golden))
    torch.testing.assert_close(window, mel.values.transpose(1, 2))
    # the official cache ends with 34 frames at every token rate; ours with those of the overlap, the same at 50 Hz
    known = past["prompt_mel"].shape[1]
    cache = torch.stack(shared, dim=-1)
    cache = torch.cat([cache[:, :, :known], cache[:, :, known:][:, :, -CACHED:]], dim=2)
    return {"out_flow_v1_mel": window, "out_flow_v1_cache": cache}


def generate_causal(golden: Golden):
    kind, model, past = version(golden), load_flow(golden), prompt(golden)
    tokens, vector = golden[f"in_flow_{kind}_token"].long(), golden[f"in_flow_{kind}_embedding"]
    ahead, start = model.token_encoder.ahead, golden[f"in_noise_flow_{kind}_rand_noise"]

    def noise(frames: int):
        return frame_noise(golden, model, start, frames)

    def mel(speech: torch.Tensor, following: torch.Tensor | None = None, **options):
        frames = past["prompt_mel"].shape[1] + model.frames(speech.shape[1])
        condition = SpeechTokens(speech, vector, **past, following=following)
        tokens = model.generate(condition, noise=noise(frames), sampler=sampler(golden, **options))
        return tokens.values.transpose(1, 2)

    # the official streaming mode in one call, and our stream piece by piece, against the same tensor
    pieces = stream_mel(model, tokens.split(2, dim=1), vector, **past, noise=noise(start.shape[-1]),
                        sampler=sampler(golden, chunked=True))
    streamed, whole = torch.cat(list(pieces), dim=1).transpose(1, 2), mel(tokens, chunked=True)
    torch.testing.assert_close(streamed, whole, rtol=1e-4, atol=1e-5)
    return {f"out_flow_{kind}_mel": mel(tokens),
            f"out_flow_{kind}_mel_streaming_final": streamed,
            f"out_flow_{kind}_mel_streaming_nonfinal": mel(tokens[:, :-ahead], chunked=True,
                                                           following=tokens[:, -ahead:])}


def mel(golden: Golden):
    names = {"n_fft": "n_fft", "num_mels": "num_mels", "sampling_rate": "sample_rate", "hop_size": "hop_length",
             "win_size": "window_length", "fmin": "f_min", "fmax": "f_max"}
    settings = golden.settings["mel"]["args"]
    if settings["center"]:
        raise ValueError("centred frames are in no published CosyVoice")
    layer = MelSpectrogram(**{names[name]: value for name, value in settings.items() if name in names},
                           mel_scale="slaney", norm="slaney", padding="same", magnitude_eps=1e-9, clip=1e-5)
    return {"out_mel_spectrogram": layer(golden["in_mel_wav"])}


HIFT = {"in_channels": "num_mels", "base_channels": "channels", "nb_harmonics": "harmonics",
        "sampling_rate": "sample_rate", "nsf_alpha": "amplitude", "nsf_sigma": "noise_std",
        "nsf_voiced_threshold": "voiced_threshold", "upsample_rates": "rates", "upsample_kernel_sizes": "kernels",
        "resblock_kernel_sizes": "block_kernels", "resblock_dilation_sizes": "block_dilations",
        "source_resblock_kernel_sizes": "source_kernels", "source_resblock_dilation_sizes": "source_dilations",
        "lrelu_slope": "slope", "audio_limit": "limit", "conv_pre_look_right": "look_ahead"}


def load_hift(golden: Golden) -> HiFT:
    kind = version(golden)
    settings = golden.settings[f"hift_{kind}"]
    args, mels = settings["args"], golden.settings["mel"]["args"]
    config = {ours: args[theirs] for theirs, ours in HIFT.items() if theirs in args}
    phase = "frame" if kind == "v3" else "sample" if args["sampling_rate"] == 22050 else "linear"
    config |= {"n_fft": args["istft_params"]["n_fft"], "spectrum_hop": args["istft_params"]["hop_len"],
               "pitch_channels": settings["f0"]["cond_channels"], "causal": kind == "v3", "phase": phase,
               "uniform_noise": kind == "v3", "mel_n_fft": mels["n_fft"], "mel_f_max": mels["fmax"]}
    return golden.load(HiFT, f"hift_{kind}", **config)


def hift_noise(golden: Golden, model: HiFT, frames: int) -> Noise:
    """The recorded noise of the source, frame by frame.

    The beginnings of the harmonics of versions 2 and 3 are never heard: they are added to a sample between those that
    the interpolation reads; and the second noise signal goes nowhere.
    """
    kind, hop = version(golden), model.hop_length
    if model.config.phase == "sample":
        normal = golden["in_noise_hift_v1_0"].split(hop, dim=2)[:frames]
        begin = golden["in_noise_hift_v1_phase"] / (2 * math.pi) + 0.5
        return golden.noise(normal=normal, uniform=[begin])
    if kind == "v3":
        return golden.noise(uniform=golden["in_noise_hift_v3_sine_noise"].split(hop, dim=1)[:frames])
    return golden.noise(normal=golden[f"in_noise_hift_{kind}_1"].split(hop, dim=1)[:frames])


def hift(golden: Golden):
    kind, model = version(golden), load_hift(golden)
    frames = golden[f"in_hift_{kind}_mel"].transpose(1, 2)
    count, pitch = frames.shape[1], model.pitch(frames.transpose(1, 2))
    noise = hift_noise(golden, model, count)
    begin = model.source.begin(noise, len(frames))
    source, _ = model.source(pitch, model.source.draw(noise, len(frames), count), begin)
    made = {f"mid_hift_{kind}_f0": pitch, f"mid_hift_{kind}_source": source,
            f"mid_hift_{kind}_source_stft": model.trunk.spectrum(source),
            f"out_hift_{kind}_wav": model.decode(Tokens(frames), noise=hift_noise(golden, model, count))[:, 0]}
    if kind == "v3":
        # what is certain before the end: the official call without finalize
        stream = HiFTStream(model, hift_noise(golden, model, count - model.pitch.reach[1]), len(frames))
        made["out_hift_v3_wav_nonfinal"] = stream.push(frames)[:, 0]
    else:
        recorded = golden[f"mid_hift_{kind}_source"]
        made[f"out_hift_{kind}_decode_only"] = model.trunk(frames.transpose(1, 2), recorded)[:, 0]
    return made


class Greedy(Noise):
    """Draws that change nothing, so that the likeliest token wins."""

    def normal(self, *shape, dtype=torch.float32):
        return torch.zeros(shape, dtype=dtype)

    uniform = gumbel = normal


class Multinomial(Noise):
    """Gumbel draws that make the choices of ``torch.multinomial`` on the CPU after ``torch.manual_seed(seed)``.

    ``sizes`` are those of the official calls, which draw for the kept tokens alone.
    """

    def __init__(self, seed: int, sizes: tuple[int, ...]) -> None:
        self.generator, self.sizes = torch.Generator().manual_seed(seed), iter(sizes)

    def normal(self, *shape, dtype=torch.float32):
        raise NotImplementedError

    uniform = normal

    def gumbel(self, *shape, dtype=torch.float32):
        size = next(self.sizes)
        gumbel = -torch.empty(size, dtype=dtype).exponential_(generator=self.generator).log()
        return F.pad(gumbel, (0, shape[-1] - size)).expand(shape)


def sampling(golden: Golden):
    args = golden.settings["ras"]["args"]
    nucleus = {"top_p": args["top_p"], "top_k": args["top_k"]}
    aware = nucleus | {"window": args["win_size"], "share": args["tau_r"]}
    scores, history = golden["in_ras_scores"], golden["in_ras_decoded"]
    seeded = []
    for row, one in enumerate(scores):
        cumulated = one.softmax(0).sort(descending=True).values.cumsum(0)
        kept = min(int((cumulated < args["top_p"]).sum()) + 1, args["top_k"], len(one))
        seeded.append(draw_repetition_aware(one[None], history[row:row + 1], Multinomial(100 + row, (kept, len(one))),
                                            **aware))
    return {"mid_ras_nucleus_argmax": draw_nucleus(scores, Greedy(), **nucleus),
            "out_ras_argmax": draw_repetition_aware(scores, history, Greedy(), **aware),
            "out_ras_seeded": torch.cat(seeded)}


def add_parts(system: System) -> None:
    """Parts of all versions; a golden holds the tensors of one."""
    system.part("mid_flow_v?_encoder", "mid_flow_v3_lookahead")(encoders)
    system.part("out_flow_v?_estimator*", "*_flow_v?_loss*")(estimator)
    system.part("out_flow_v1_*", tolerance=1e-4)(generate_v1)
    system.part("out_flow_v?_mel*", tolerance=1e-4)(generate_causal)
    system.part("*_hift_v?_*")(hift)
    system.part("out_mel_spectrogram")(mel)
    system.part("*_ras_*")(sampling)
