"""GLM-4-Voice's decoder: flow in training and inference, and the stream of blocks with a stand-in for the vocoder."""

from __future__ import annotations

import torch
from cosyvoice_parts import CONFORMER, UNET, pick
from golden import Golden, System
from torch import Tensor

from photophone.core.noise import ReplayNoise
from photophone.core.tokens import Tokens
from photophone.generators.cosyvoice.block_stream import BlockSpeech
from photophone.generators.cosyvoice.chunked import Sight
from photophone.generators.cosyvoice.condition import FlowSampler, ReseededNoise, SpeechTokens
from photophone.generators.cosyvoice.flow import CosyVoiceFlow

system = System("glm4voice_decoder")
HOP = 256


def load_flow(golden: Golden) -> CosyVoiceFlow:
    settings = golden.settings
    flow, encoder, cfm = settings["flow"], dict(settings["encoder"]), settings["cfm_params"]
    if encoder.pop("selfattention_layer_type") != "block_rel_selfattn" or cfm["t_scheduler"] != "cosine":
        raise ValueError("this is the flow of another system")
    pick(cfm, {})
    return golden.load(
        CosyVoiceFlow, "flow", vocab_size=flow["vocab_size"], input_dim=flow["input_size"],
        mel_dim=flow["output_size"], speaker_dim=flow["spk_embed_dim"], token_rate=flow["input_frame_rate"],
        encoder="blocks", encoder_config=pick(encoder, CONFORMER) | {
            "block": encoder["block_size"], "regulator_depth": len(settings["regulator"]["sampling_ratios"])},
        estimator="unet", estimator_config=pick(settings["estimator"], UNET) | {"soft_padding": True},
        sigma_min=cfm["sigma_min"], drop_rate=cfm["training_cfg_rate"], fixed_noise=True, reseeded=True,
        warped_times=True, max_prefix=0.8)


def sampler(golden: Golden) -> FlowSampler:
    return FlowSampler(guidance_scale=1 + golden.settings["cfm_params"]["inference_cfg_rate"])


class OwnNoise(ReseededNoise):
    """That of the model, which must be what was recorded."""

    def __init__(self, recorded: ReplayNoise) -> None:
        self.recorded = recorded

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        drawn, recorded = super().normal(*shape, dtype=dtype), self.recorded.normal(*shape, dtype=dtype)
        torch.testing.assert_close(drawn, recorded)
        return recorded


@system.part("*_train_*")
def training(golden: Golden):
    model, made = load_flow(golden).train(), {}
    mel, counts = golden["in_train_feat"], golden["in_train_feat_len"]
    draws = golden.replay("train").records
    kept = torch.stack(draws["uniform"][:2])
    # the official prefix of a row that has one, as the share that ours is made of
    prefix = torch.zeros(2)
    rows = (kept >= 0.5).nonzero()[:, 0]
    for row, count in zip(rows.tolist(), draws["integers"], strict=True):
        prefix[row] = (int(count) + 0.5) / (int(model.config.max_prefix * int(counts[row])) + 1)
    golden.replays.clear()
    noise = golden.noise(uniform=[kept, prefix, *draws["uniform"][2:]], normal=draws["normal"])
    model.token_encoder.conformer.register_forward_hook(lambda _, __, out: made.update(mid_train_encoder=out))
    matching = model.matching_loss

    def watched(data, mask, mu, speaker, cond, noise, sight):
        loss, noised = matching(data, mask, mu, speaker, cond, noise, sight)
        made.update(mid_train_cond=cond, mid_train_y=noised, mid_train_mu=mu.transpose(1, 2))
        return loss, noised

    model.matching_loss = watched
    condition = SpeechTokens(golden["in_train_token"].long(), golden["in_train_embedding"],
                             golden["in_train_token_len"].long())
    made["out_train_loss"] = model.loss(Tokens(mel, counts), condition, noise=noise).loss
    return made


@system.part("mid_encoder", "mid_mu", "mid_prompt_mu")
def encoder(golden: Golden):
    model = load_flow(golden)
    tokens, prompt = golden["in_token"].long(), golden["in_prompt_token"].long()
    known = golden["in_prompt_feat"].shape[1]
    both = torch.cat([prompt, tokens], dim=1)
    return {"mid_encoder": model.token_encoder.conformer(model.embed(tokens), model.token_encoder.sight),
            "mid_mu": model.encode(tokens, 0, 0, Sight()).transpose(1, 2),
            "mid_prompt_mu": model.encode(both, prompt.shape[1], known, Sight()).transpose(1, 2)}


@system.part("out_mel*", tolerance=1e-4)
def inference(golden: Golden):
    model, tokens, vector = load_flow(golden), golden["in_token"].long(), golden["in_embedding"]
    prompt = {"prompt_tokens": golden["in_prompt_token"].long(), "prompt_mel": golden["in_prompt_feat"]}

    def mel(scope: str, condition: SpeechTokens):
        made = model.generate(condition, noise=OwnNoise(golden.replay(scope)), sampler=sampler(golden))
        return made.values.transpose(1, 2)

    return {"out_mel": mel("plain", SpeechTokens(tokens, vector)),
            "out_mel_prompt": mel("prompt", SpeechTokens(tokens, vector, **prompt)),
            "out_mel_zero_speaker": mel("zero_speaker", SpeechTokens(tokens, torch.zeros_like(vector)))}


def stand_in(mel: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor]:
    """The vocoder of the golden."""
    source = mel[:, :1].repeat_interleave(HOP, dim=2)
    if known is not None:
        source = torch.cat([known, source[:, :, known.shape[-1]:]], dim=2)
    return 0.5 * source[:, 0], source


@system.part("*_stream_*", "out_offline_wav", tolerance=1e-4)
def stream(golden: Golden):
    model, tokens, made = load_flow(golden), golden["in_stream_token"].long(), {}
    size, zeros = golden.settings["encoder"]["block_size"], torch.zeros(1, model.config.speaker_dim)
    speech = BlockSpeech(model, stand_in, zeros, noise=OwnNoise(golden.replay("stream")), sampler=sampler(golden))
    blocks, parts = tokens.split(size, dim=1), []
    for index, block in enumerate(blocks):
        audio, mel = speech.push(block, last=index == len(blocks) - 1)
        made |= {f"mid_stream_mel_{index}": mel, f"out_stream_wav_{index}": audio}
        parts.append(audio)
    again = BlockSpeech(model, stand_in, zeros, sampler=sampler(golden)).run(tokens.split(3, dim=1), size)
    made["out_stream_wav"] = torch.cat(parts, dim=1)
    torch.testing.assert_close(torch.cat(list(again), dim=1), made["out_stream_wav"])
    offline = BlockSpeech(model, stand_in, zeros, noise=OwnNoise(golden.replay("offline")), sampler=sampler(golden))
    made["out_offline_wav"] = offline.push(tokens[:, :7], last=True)[0]
    return made
