"""TASTE: the tower with its quantizer, the unit decoder, and the spoken language model."""

from __future__ import annotations

from typing import Any

import torch
from golden import Golden, System
from torch import Tensor

from photophone.core.tokens import Tokens
from photophone.generators.taste.layout import IGNORED, ContinuationSampler, SpokenPrompt, piece_tables
from photophone.generators.taste.spoken_lm import TasteSpokenLM
from photophone.generators.taste.text_llama import TextLlama
from photophone.generators.taste.tower import TasteTower
from photophone.generators.taste.unit_decoder import SpokenWords, TasteUnitDecoder
from photophone.layers.lengths import length_mask
from photophone.layers.llama_block import convert_llama_keys
from photophone.loading.checkpoints import load_strict, rename_keys

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


@system.part("mid_keys", "mid_values", "mid_decoder_hidden", "out_units*", "out_unit_lengths", "out_indices*",
             "mid_code_sum", "out_from_indices")
def tower(golden: Golden):
    model, ids, lengths = load_tower(golden), golden["in_asr_token_ids"], golden["in_asr_token_lengths"]
    mel, words = golden["in_audio_features"], golden["in_asr_word_ids"]
    keys, values = model.encoder(mel)
    found, mask = model(mel, ids, lengths, words), length_mask(lengths, ids.shape[1])[..., None]
    return {"mid_keys": keys, "mid_values": values, "mid_decoder_hidden": model.align(keys, values, ids),
            "out_units_no_vq": model.word_values(mel, ids, lengths, words), "out_units": found.values,
            "out_unit_lengths": (found.codes[..., 0] >= 0).sum(1),
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


def load_spoken_lm(golden: Golden, **config: Any) -> TasteSpokenLM:
    """The recorded language model, with the quantizer of the recorded tower: one file, as it is published."""
    given, text = golden.settings, golden.settings["text"]
    common, quantizer = given["llama_common"], given["quantizer"]
    state = {f"spoken_lm.{key}": value for key, value in golden.state("spoken_lm").items()}
    state |= {f"audio_tower.{key}": value for key, value in golden.state("audio_tower").items()}
    return TasteSpokenLM.from_original(state, **{
        "vocab_size": text["vocab_size"], "width": text["hidden_size"], "depth": text["num_hidden_layers"],
        "num_heads": text["num_attention_heads"], "num_kv_heads": text["num_key_value_heads"],
        "hidden": text["intermediate_size"], "eps": common["rms_norm_eps"], "rotary_base": common["rope_theta"],
        "start": given["sos"], "end": given["eot"], "unit_dim": quantizer["dim"],
        "code_dim": quantizer["codebook_dim"], "codebook_size": quantizer["codebook_size"],
        "num_levels": quantizer["num_quantizers"], "delay": given["delay"],
        "max_length": common["max_position_embeddings"], **config})


def word_map(golden: Golden) -> Tensor:
    """Which id of the language model (rows) begins the word that an id of the recogniser (columns) begins."""
    begins = []
    for name in ("llm", "asr"):
        words, lengths = golden[f"in_{name}_word_ids"], golden[f"in_{name}_token_lengths"]
        first = torch.ones_like(words, dtype=torch.bool)
        first[:, 1:] = words[:, 1:] != words[:, :-1]
        begins.append((words, first & length_mask(lengths, words.shape[1])))
    (ours, first), (theirs, begin) = begins
    return ((ours[:, :, None] == theirs[:, None]) & first[:, :, None] & begin[:, None]).float()


def codes_of_words(golden: Golden) -> Tensor:
    """Codes at the ids that begin a word in the language model's vocabulary."""
    where = word_map(golden)
    codes = (where @ golden["out_indices"].float()).long()
    return torch.where(where.sum(2, keepdim=True) > 0, codes, IGNORED)


@system.part("mid_word_map", "out_llm_indices", "mid_slm_*")
def layouts(golden: Golden):
    made = {"mid_word_map": word_map(golden), "out_llm_indices": codes_of_words(golden)}
    for level, delay in (("token", 0), ("token", 1), ("word", 1)):
        model = load_spoken_lm(golden, delay=delay, by_word=level == "word")
        lengths = golden["in_llm_token_lengths"]
        x, mask, told = model.sequences(golden["in_llm_token_ids"], codes_of_words(golden), lengths)
        name = f"mid_slm_{level}_{delay}"
        made |= {f"{name}_inputs": kept(x, mask.sum(1)), f"{name}_mask": mask, f"{name}_taste_labels": told,
                 f"{name}_lengths": mask.sum(1)}
    return made


@system.part("out_slm_*")
def spoken_lm(golden: Golden):
    model, ids, lengths = load_spoken_lm(golden), golden["in_llm_token_ids"], golden["in_llm_token_lengths"]
    codes = codes_of_words(golden)
    x, mask, told = model.sequences(ids, codes, lengths)
    states = model.llama.states(x, mask)
    predicted = model.quantizer.encode_codes(model.code_values(states))
    tokens = Tokens(torch.cat([ids[:, None], codes.transpose(1, 2)], dim=1), lengths)
    every = torch.ones_like(ids, dtype=torch.bool)  # the recorded labels have padding ids among them
    return {"out_slm_text_logits": kept(model.llama.logits(states), mask.sum(1)),
            "out_slm_text_labels": torch.nn.functional.pad(ids, (0, 2), value=IGNORED),
            "out_slm_taste_ids": torch.where(mask[..., None], predicted, IGNORED),
            "out_slm_units": units_of_words(golden, model, predicted, told),
            "out_slm_loss": model.joint_loss(tokens, counted=every).loss,
            "out_slm_loss_with_reference": model.joint_loss(tokens, reference_logits(golden), every).loss}


def reference_logits(golden: Golden) -> Tensor:
    """Of the Llama as it was, of the text alone."""
    given, text, common = golden.settings, golden.settings["text"], golden.settings["llama_common"]
    model = TextLlama(text["vocab_size"], text["hidden_size"], text["num_hidden_layers"], text["num_attention_heads"],
                      text["num_key_value_heads"], text["intermediate_size"], common["rms_norm_eps"],
                      common["rope_theta"], rounded=False)
    state = golden.state("reference_llama")
    del state["lm_head.weight"]
    state = rename_keys(state, [(r"^model\.embed_tokens\.", "embedding.")])
    load_strict(model, convert_llama_keys(state, "model.", "backbone."))
    ids = golden["in_llm_token_ids"]
    ids = torch.cat([torch.full_like(ids[:, :1], given["sos"]), ids[:, :-1]], dim=1)
    return model.logits(model.states(model.embedding(ids), torch.ones_like(ids, dtype=torch.bool)))


def units_of_words(golden: Golden, model: TasteSpokenLM, predicted: Tensor, told: Tensor) -> Tensor:
    """Units of predicted codes at the ids of the recogniser, the same for all ids of a word."""
    words, lengths = golden["in_asr_word_ids"], golden["in_asr_token_lengths"]
    rows = [row[where][word] for row, where, word in zip(predicted, told[..., 0] >= 0, words, strict=True)]
    return kept(model.quantizer.decode(torch.stack(rows)), lengths)


def generate(golden: Golden, name: str) -> dict[str, Tensor]:
    mode, sampler = golden.config["generate_runs"][name]
    model, given = load_spoken_lm(golden), golden.settings
    lengths = golden["in_llm_token_lengths"][:1] * (mode != "zero")
    codes = None if mode == "text" else codes_of_words(golden)[:1]
    prompt = SpokenPrompt(golden["in_llm_token_ids"][:1], lengths, codes, **piece_tables(
        golden.config["pieces"], given["sos"], given["eot"]))
    # the official code draws codes of one that is certain: those draws say nothing
    size = given["text"]["vocab_size"]
    noise = golden.noise(exponential=[draw for _, draw in golden.draws(f"generate_{name}") if draw.shape[-1] == size])
    settings = {key: value for key, value in given[sampler].items() if key != "taste_top_p"}
    made = model.generate(prompt, noise=noise, sampler=ContinuationSampler(
        extra_words=given["extra_words"], max_ids=100, **settings)).values
    opens = prompt.opens[made[:, 0]]
    opens[:, 0] = True
    ends = opens.roll(-1, 1)  # the official result has the codes of a word at its last id
    codes = torch.full_like(made[0, 1:], IGNORED)
    codes[:, ends[0]] = made[0, 1:, opens[0]]
    stem = f"out_generate_{name}"
    return {f"{stem}_token_ids": made[:, 0], f"{stem}_indices": codes.T[None],
            f"{stem}_word_ids": opens.cumsum(1) - 1, f"{stem}_lengths": torch.tensor([[made.shape[2]]])}


def generation(name: str) -> None:
    """A part for each run."""
    @system.part(f"out_generate_{name}_[tiwl]*")
    def part(golden: Golden):
        return generate(golden, name)


for run in ("audio", "text", "zero", "audio_sampled"):
    generation(run)
