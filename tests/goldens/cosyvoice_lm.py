"""CosyVoice's language models: training sequences and losses, preferences, decoding, text that comes piece by piece."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from golden import Golden, System
from torch import Tensor

from photophone.core.noise import Noise
from photophone.core.tokens import Tokens
from photophone.generators.cosyvoice.lm_layout import accuracy, mean_log_probs, preference_loss, smoothed_loss
from photophone.generators.cosyvoice.qwen_lm import CosyVoiceQwenLM
from photophone.generators.cosyvoice.relative_lm import CosyVoiceRelativeLM
from photophone.generators.cosyvoice.speech_lm import SpeechLM
from photophone.generators.cosyvoice.spoken_text import SpeechLMSampler, SpokenText
from photophone.generators.cosyvoice.text_stream import TextStream, speak_pieces, without_long_silence
from photophone.layers.rotary import sequence_rotary

system = System("cosyvoice_lm")
QWEN = {"vocab_size": "vocab_size", "hidden_size": "width", "intermediate_size": "hidden",
        "num_hidden_layers": "depth", "num_attention_heads": "num_heads", "num_key_value_heads": "num_kv_heads"}
CONFORMER = {"output_size": "dim", "attention_heads": "num_heads", "linear_units": "hidden", "num_blocks": "depth"}
RAS = {"top_p": "top_p", "top_k": "top_k", "win_size": "window", "tau_r": "share"}


def renamed(settings: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {ours: settings[theirs] for theirs, ours in names.items() if theirs in settings}


def load(golden: Golden, version: str) -> SpeechLM:
    settings = golden.settings[version]
    args = settings["args"]
    loss = {"smoothing": args["lsm_weight"], "per_token": args["length_normalized_loss"],
            "num_tokens": args["speech_token_size"]}
    if version == "v1":
        blocks = renamed(settings["llm"], {**CONFORMER, "output_size": "width"})
        return golden.load(CosyVoiceRelativeLM, "lm_v1", vocab_size=args["text_token_size"],
                           text_dim=args["text_encoder_input_size"], speaker_dim=args["spk_embed_dim"],
                           text_encoder=renamed(settings["text_encoder"], CONFORMER), **blocks, **loss)
    common, third = golden.settings["qwen_common"], version == "v3"
    return golden.load(CosyVoiceQwenLM, f"lm_{version}", **renamed(settings["qwen"], QWEN), **loss,
                       mix=args["mix_ratio"], num_specials=200 if third else 3, own_specials=not third,
                       eps=common["rms_norm_eps"], rotary_base=common["rope_theta"],
                       max_length=common["max_position_embeddings"])


def batch(golden: Golden, version: str) -> tuple[Tokens, SpokenText]:
    def part(name: str) -> tuple[Tensor, Tensor]:
        return golden[f"in_{version}_{name}_token"], golden[f"in_{version}_{name}_token_len"].long()

    text, counts = part("text")
    instruction = None
    if version == "v3":  # stands in front of the text
        front, instruction = part("instruct")
        rows = [torch.cat([row[:first], said[:count]]) for row, first, said, count in
                zip(front, instruction.tolist(), text, counts.tolist())]
        text, counts = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), counts + instruction
    speaker = golden[f"in_{version}_embedding"] if version == "v1" else None
    return Tokens(*part("speech")), SpokenText(text, counts, speaker=speaker, instruction=instruction)


def mixing(golden: Golden, scope: str, rows: int) -> Noise:
    """What decided which rows are mixed; CosyVoice 1 draws nothing."""
    draws = [draw.reshape(1) for _, draw in golden.draws(scope)] if scope in golden.config["draws"] else []
    return golden.noise(uniform=[torch.cat(draws)] if draws else [])


@system.part("*_v?_lm_*", "out_v?_logits", "out_v?_loss*", "out_v?_acc")
def training(golden: Golden):
    made = {}
    for version in ("v1", "v2", "v3"):
        model, (tokens, condition) = load(golden, version), batch(golden, version)
        output = model.loss(tokens, condition, noise=mixing(golden, f"{version}_forward", len(tokens)))
        mixed = [False] * len(tokens)
        if model.mixes:
            mixed = [float(draw) < 0.5 for _, draw in golden.draws(f"{version}_forward")]
        x, targets, mask = model.sequences(tokens, condition, mixed)
        logits = model.token_head.logits(model.states(x, mask))
        smooth = golden.settings["smooth"]
        made |= {f"mid_{version}_lm_input": x.masked_fill(~mask[..., None], -1.0), f"mid_{version}_lm_target": targets,
                 f"mid_{version}_lm_len": mask.sum(1), f"out_{version}_logits": logits * mask[..., None],
                 f"out_{version}_loss": output.loss, f"out_{version}_acc": output.metrics["accuracy"],
                 f"out_{version}_loss_smooth_tokens": smoothed_loss(logits, targets, smooth),
                 f"out_{version}_loss_smooth_batch": smoothed_loss(logits, targets, smooth, per_token=False)}
    return made


@system.part("*_v2_dpo_*")
def preferences(golden: Golden):
    """The official code takes the mean over the positions that are not learned, padding among them, where it gathers
    the first token."""
    model, pad = load(golden, "v2"), torch.nn.utils.rnn.pad_sequence
    names = {"speech_token": "speech_token_len", "reject_speech_token": "reject_speech_token_len"}
    rows = [row[:count] for name, lengths in names.items() for row, count in
            zip(golden[f"in_v2_dpo_{name}"], golden[f"in_v2_dpo_{lengths}"].tolist())]
    tokens = Tokens(pad(rows, batch_first=True), torch.tensor([len(row) for row in rows]))
    text, counts = golden["in_v2_dpo_text_token"], golden["in_v2_dpo_text_token_len"].long()
    condition = SpokenText(text.repeat(2, 1), counts.repeat(2))
    draws = mixing(golden, "v2_dpo", len(tokens)).uniform(len(tokens))
    x, targets, mask = model.sequences(tokens, condition, (draws < 0.5).tolist())
    logits = model.token_head.logits(model.states(x, mask))
    chosen, half = targets[:len(text)], len(text)
    count = x.shape[1]
    seen = torch.ones(count, count, dtype=torch.bool).tril() & mask[:, None]
    table = sequence_rotary(count, x.shape[2] // model.config.num_heads, model.config.rotary_base)
    padded = model.backbone(x.masked_fill(~mask[..., None], -1.0), seen[:, None], table)
    logs = mean_log_probs(model.token_head.logits(padded), targets, targets < 0)
    return {"mid_v2_dpo_logits": logits * mask[..., None], "mid_v2_dpo_lm_len": mask.sum(1),
            "mid_v2_dpo_chosen_target": chosen, "out_v2_dpo_chosen_logps": logs[:half],
            "out_v2_dpo_rejected_logps": logs[half:], "out_v2_dpo_acc": accuracy(logits[:half], chosen),
            "out_v2_dpo_loss": smoothed_loss(logits[:half], chosen, model.config.smoothing, model.config.per_token)}


@system.part("out_dpo_*")
def preference_losses(golden: Golden):
    pairs = [golden[f"in_dpo_{who}_{what}"] for who in ("policy", "reference") for what in ("chosen", "rejected")]
    beta, made = golden.settings["beta"], {}
    for name, options in {"plain": {}, "smooth": {"smoothing": golden.settings["dpo_smooth"]},
                          "ipo": {"squared": True}}.items():
        made[f"out_dpo_{name}_loss"], chosen, rejected = preference_loss(*pairs, beta=beta, **options)
    return made | {"out_dpo_chosen_rewards": chosen, "out_dpo_rejected_rewards": rejected}


class Draws(Noise):
    """Recorded exponentials of ``torch.multinomial``: of the kept tokens, likeliest first, and where a token was drawn
    again, of all tokens."""

    def __init__(self, records: list[Tensor]) -> None:
        self.records, self.used, self.again = records, 0, False

    def normal(self, *shape, dtype=torch.float32):
        raise NotImplementedError

    uniform = normal

    def gumbel(self, *shape, dtype=torch.float32):
        nucleus, self.again = not self.again, not self.again
        if not nucleus and (self.used == len(self.records) or len(self.records[self.used]) != shape[-1]):
            return torch.zeros(shape)  # nothing was drawn again
        draw = self.records[self.used]
        self.used += 1
        return F.pad(-draw.log(), (0, shape[-1] - len(draw))).expand(shape)

    @property
    def exhausted(self) -> bool:
        return self.used == len(self.records)


class Record:
    """What a model reads, its log-probabilities and its choices."""

    def __init__(self, model: SpeechLM) -> None:
        self.inputs, self.logs, self.picked = [], [], []
        pick = model.pick
        model.backbone.register_forward_pre_hook(lambda _, inputs: self.inputs.append(inputs[0]))
        model.token_head.linear.register_forward_hook(
            lambda _, __, output: self.logs.append(output[:, -1].log_softmax(-1)))
        model.pick = lambda *given: self.picked.append(pick(*given)) or self.picked[-1]
        states = getattr(model.backbone, "stack", None)
        if states is not None:  # CosyVoice 1 goes around the forward of its encoder
            embed = states.embed
            states.embed = lambda x: self.inputs.append(x) or embed(x)

    def tensors(self, tag: str) -> dict[str, Tensor]:
        return {f"mid_{tag}_lm_input": self.inputs[0], f"mid_{tag}_logp": torch.cat(self.logs),
                f"mid_{tag}_picked": torch.cat(self.picked),
                f"mid_{tag}_all_inputs": torch.cat(self.inputs, dim=1),
                f"mid_{tag}_step_lengths": torch.tensor([x.shape[1] for x in self.inputs])}


def run(golden: Golden, tag: str, settings: dict[str, Any]) -> dict[str, Tensor]:
    """One recorded run."""
    version, mode = tag.split("_", 1)
    model = load(golden, version)
    record, noise = Record(model), Draws([draw for _, draw in golden.draws(tag)])
    golden.replays.append(noise)
    ratios = settings["ratios"]
    limits = {"min_ratio": ratios["min_token_text_ratio"], "max_ratio": ratios["max_token_text_ratio"]}
    sampler = SpeechLMSampler(**renamed(golden.settings[settings["ras"]], RAS), **limits)
    text, front, speech = (golden[f"in_{tag}_{name}"][0].long() for name in ("text", "prompt_text", "prompt_speech"))
    if mode.startswith("bistream"):
        separator = golden.settings["v3"]["eop"] if version == "v3" else None
        stream = TextStream(model, front, speech, noise=noise, sampler=sampler, separator=separator)
        tokens = speak_pieces(stream, text.split(settings["text_chunks"] or 1))
    else:
        speaker = golden[f"in_{tag}_embedding"] if version == "v1" and len(golden[f"in_{tag}_embedding"]) else None
        condition = SpokenText.of_rows([text.tolist()], [front.tolist()], [speech], speaker)
        parts = model.stream(condition, noise=noise, sampler=sampler)
        tokens = (part.values[0] for part in parts if part.mask.all())
    kept = list(without_long_silence(tokens, settings["silent_tokens"]))
    return {**record.tensors(tag), f"out_{tag}_tokens": torch.cat(kept)}


def decoding(tag: str):
    return lambda golden: run(golden, tag, golden.config["runs"][tag]) if tag in golden.config["runs"] else {}


for name in ("v1_sft", "v1_zero_shot", "v1_cross_lingual", "v1_instruct", "v1_ratios", "v2_zero_shot",
             "v2_cross_lingual", "v2_instruct2", "v2_stop_early", "v2_ratios", "v2_bistream_early_fill",
             "v2_bistream_chunks", "v2_bistream_no_prompt", "v2_bistream_short", "v2_bistream", "v3_zero_shot",
             "v3_cross_lingual", "v3_instruct2", "v3_bistream_no_prompt", "v3_bistream"):
    system.part(f"*_{name}_*")(decoding(name))


@system.part("out_silent_filtered")
def silence(golden: Golden):
    stream = golden["in_silent_stream"].split(1)
    return {"out_silent_filtered": torch.cat(list(without_long_silence(stream, golden.settings["silent_tokens"])))}
