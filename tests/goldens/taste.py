"""TASTE: the tower with its quantizer, the unit decoder, and the spoken language model."""

from __future__ import annotations

from typing import Any

import torch
from golden import Golden, System
from torch import Tensor

from photophone.generators.taste.tower import TasteTower
from photophone.generators.taste.unit_decoder import SpokenWords, TasteUnitDecoder
from photophone.layers.lengths import length_mask

system = System("taste")


def load_tower(golden: Golden) -> TasteTower:
    given = golden.settings
    whisper, quantizer = given["whisper"], given["quantizer"]
    return golden.load(
        TasteTower, "audio_tower", vocab_size=whisper["vocab_size"], prefix=given["prefix"], end=given["eos"],
        num_mels=whisper["num_mel_bins"], max_frames=whisper["max_source_positions"],
        max_text=whisper["max_target_positions"], width=whisper["d_model"], depth=whisper["encoder_layers"],
        decoder_depth=whisper["decoder_layers"], num_heads=whisper["encoder_attention_heads"],
        hidden=whisper["encoder_ffn_dim"], decoder_hidden=whisper["decoder_ffn_dim"],
        value_layer=given["joint"]["target_hidden_layer"], code_dim=quantizer["codebook_dim"],
        codebook_size=quantizer["codebook_size"], num_levels=quantizer["num_quantizers"], decay=quantizer["decay"])


@system.part("mid_keys", "mid_values", "mid_decoder_hidden", "out_units*", "out_indices*", "mid_code_sum",
             "out_from_indices")
def tower(golden: Golden):
    model, ids, lengths = load_tower(golden), golden["in_asr_token_ids"], golden["in_asr_token_lengths"]
    mel, words = golden["in_audio_features"], golden["in_asr_word_ids"]
    keys, values = model.encoder(mel)
    found, mask = model(mel, ids, lengths, words), length_mask(lengths, ids.shape[1])[..., None]
    return {"mid_keys": keys, "mid_values": values, "mid_decoder_hidden": model.align(keys, values, ids),
            "out_units_no_vq": model.word_values(mel, ids, lengths, words), "out_units": found.values,
            "out_indices": found.codes, "mid_code_sum": model.quantizer.code_sum(found.codes),
            "out_from_indices": model.quantizer.decode(found.codes) * mask,
            "out_indices_from_code": model.quantizer.encode_codes(golden["in_code"])}


@system.part("out_vq_train_*")
def quantizer_training(golden: Golden):
    made, mask = {}, length_mask(golden["in_asr_token_lengths"], golden["in_vq"].shape[1])
    for run in (0, 1):
        model = load_tower(golden).quantizer.train()
        found = model(golden["in_vq"], mask, golden.replay(f"vq_train_{run}"))
        made |= {f"out_vq_train_{run}_quantized": found.values, f"out_vq_train_{run}_indices": found.codes,
                 f"out_vq_train_{run}_commit": found.losses[None]}
        for level in (0, 3):
            made |= {f"out_vq_train_{run}_cluster_size_{level}": model.sizes[level][None],
                     f"out_vq_train_{run}_embed_{level}": model.books[level][None]}
    return made


def load_decoder(golden: Golden, **config: Any) -> TasteUnitDecoder:
    given = golden.settings
    sizes, names = given["decoder"], {"attention_heads": "num_heads", "linear_units": "hidden", "num_blocks": "depth"}
    enc, units, llm = ({names[name]: value for name, value in given[part].items()} for part in ("enc", "aenc", "llm"))
    state = golden.state("speech_decoder")
    width = sizes["llm_input_size"]
    enc["dim"], units["dim"] = (state[f"{part}.after_norm.weight"].shape[0]
                                for part in ("text_encoder", "audio_token_encoder"))
    return golden.load(
        TasteUnitDecoder, "speech_decoder", vocab_size=sizes["text_token_size"], text_dim=sizes["encoder_input_size"],
        unit_dim=sizes["audio_encoder_input_size"], num_tokens=sizes["speech_token_size"],
        speaker_dim=sizes["spk_embed_dim"], text_encoder=enc, unit_encoder=units, width=width, **llm, **config)


def words(golden: Golden, units: bool = True) -> SpokenWords:
    return SpokenWords(golden["in_asr_token_ids"], golden["in_asr_token_lengths"], golden["in_speaker_embeds"],
                       golden["out_units"] if units else None)


def kept(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, N, ...) with zeros behind the lengths."""
    mask = length_mask(lengths, x.shape[1])
    return torch.where(mask.view(*mask.shape, *[1] * (x.ndim - 2)), x, 0)


@system.part("mid_text_encoded", "mid_audio_encoded", "out_fused_*", "mid_lm_*", "out_labels", "out_logits*",
             "out_loss*")
def unit_decoder(golden: Golden):
    model, condition = load_decoder(golden), words(golden)
    lengths = condition.lengths
    text, audio = (kept(part, lengths) for part in (model.encode_text(condition.ids, lengths),
                                                    model.encode_units(condition.units, lengths)))
    made = {"mid_text_encoded": text, "mid_audio_encoded": audio, "out_fused_plain": model.fusion(audio, text)}
    model.fusion.normalize = True
    made["out_fused_normalized"] = kept(model.fusion(audio, text), lengths)
    model.fusion.normalize = False
    tokens, counts = golden["in_speech_token_ids"], golden["in_speech_token_lengths"]
    for name, given in (("", condition), ("_text_only", words(golden, units=False))):
        rows, targets = model.teacher(given, tokens, counts)
        sizes = torch.tensor([len(row) for row in rows], dtype=torch.int32)
        logits = model.logits(rows)
        made |= {f"out_logits{name}": kept(logits, sizes), f"out_loss{name}": model.token_loss(logits, targets)}
        if not name:
            made |= {"mid_lm_input": torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1),
                     "mid_lm_len": sizes,
                     "out_labels": targets}
            for kind, per_token in (("tokens", True), ("batch", False)):
                other = load_decoder(golden, smoothing=0.1, per_token=per_token)
                made[f"out_loss_smooth_{kind}"] = other.token_loss(logits, targets)
    return made


@system.part("mid_unit_logp", "out_unit_ids")
def units(golden: Golden):
    model, noise, seen = load_decoder(golden), golden.replay("units"), []
    condition = words(golden)[:1]
    draw = model.draw

    def official(logs, early, noise, sampler):
        """The official loop draws again while an end comes too early; here it cannot come, and its draws are left."""
        seen.append(logs[0])
        while True:
            pick = draw(logs, torch.zeros_like(early), noise, sampler)
            if int(pick) != model.end or not bool(early[0]):
                return pick

    model.draw = official
    made = model.generate(condition, noise=noise)
    return {"mid_unit_logp": torch.stack(seen), "out_unit_ids": made.values.int()}
