"""Delayed streams: training logits, streaming with and without guidance, conditions, text to speech, speech to text."""

from __future__ import annotations

import torch
from golden import Golden, System
from torch import Tensor

from photophone.generators.delayed_streams.config import model_config
from photophone.generators.delayed_streams.model import DelayedStreams, delay_rows, masked_cross_entropy
from photophone.generators.delayed_streams.script import Word, WordMachine
from photophone.generators.delayed_streams.session import StreamSession
from photophone.generators.delayed_streams.speaking import Speaking

system = System("dsm")


def load_model(golden: Golden, name: str) -> DelayedStreams:
    return golden.load(DelayedStreams, name, **model_config(golden.settings[name]["lm_kwargs"]))


def logits_of(model: DelayedStreams, codes: Tensor, name: str, conditions=None) -> dict[str, Tensor]:
    logits, mask, text, text_mask = model.logits(codes, conditions)
    made = {f"out_{name}_logits": logits, f"out_{name}_mask": mask, f"out_{name}_text_logits": text,
            f"out_{name}_text_mask": text_mask}
    if model.config.two_texts:  # its codes are of two texts, the logits of one
        return made
    return made | {f"out_{name}_ce": masked_cross_entropy(logits, codes[:, 1:1 + model.spoken_books], mask),
                   f"out_{name}_text_ce": masked_cross_entropy(text, codes[:, :1], text_mask)}


def run(session: StreamSession, heard: Tensor, steps: int) -> Tensor:
    with session.open():
        frames = [session.step(heard[:, :, step]) for step in range(steps)]
    return torch.stack([frame for frame in frames if frame is not None], dim=-1)


@system.part("*_moshi_*")
def moshi(golden: Golden):
    model, io = load_model(golden, "lm_moshi"), golden.settings["io"]
    codes, user = golden["in_moshi_codes"], golden["in_moshi_user"]
    delayed = delay_rows(codes, model.delays, model.start_codes())
    sampling = io["sampling"]
    noise = golden.noise(exponential=[golden[name] for name in golden.names("in_noise_moshi_*")])
    sampled = StreamSession(model, len(user), noise=noise, temperature=sampling["temp"],
                            text_temperature=sampling["temp_text"], top_k=sampling["top_k"],
                            text_top_k=sampling["top_k_text"])
    return logits_of(model, codes, "moshi") | {
        "mid_moshi_delayed": delayed, "mid_moshi_transformer_out": model.states(delayed[..., :-1]),
        "out_moshi_greedy": run(StreamSession(model, len(user)), user, io["steps"]),
        "out_moshi_sampled": run(sampled, user, io["sample_steps"])}


def attributes(golden: Golden) -> list[dict]:
    frames = golden["in_tts_speaker"]
    mask = torch.ones(frames.shape[:2], dtype=torch.bool)
    mask[1, -2:] = False
    return [{"speaker_wavs": (frames[row], mask[row]), "cfg": word, "control": "ok"}
            for row, word in enumerate(("2.0", None))]


@system.part("mid_tts_*", "out_tts_logits", "out_tts_mask", "out_tts_text_*", "out_tts_cfg_*")
def conditioned(golden: Golden):
    model, rows = load_model(golden, "lm_tts"), attributes(golden)
    conditions = model.conditioners.conditions(rows)
    made = {f"mid_tts_cond_{name}": model.conditioners[name]([row[name] for row in rows]) for name in rows[0]}
    made |= {"mid_tts_sum": conditions.total, "mid_tts_cross": conditions.cross}
    made |= logits_of(model, golden["in_tts_codes"], "tts", conditions)
    both, strength = model.conditioners.conditions(rows, with_null=True), golden.settings["tts"]["cfg_coef"]
    for name, options in (("", {}), ("no_text_", {"without_text": True}), ("masked_", {"hidden_until": [2, 3]})):
        steps = golden[f"out_tts_cfg_{name}frames"].shape[-1] + max(model.delays)
        session = StreamSession(model, len(rows), both, guidance=strength, **options)
        made[f"out_tts_cfg_{name}frames"] = run(session, torch.zeros(len(rows), 0, steps, dtype=torch.long), steps)
    return made


def machine_of(golden: Golden, text_codes: int, ahead: int | None = None) -> WordMachine:
    given = golden.settings["tts"]["machine"]
    return WordMachine(text_codes, given["second_stream_ahead"] if ahead is None else ahead, given["max_padding"],
                       given["initial_padding"])


def words_of(golden: Golden) -> list[list[Word]]:
    return [[Word(tuple(entry["tokens"]), entry["text"], entry["padding"]) for entry in row]
            for row in golden.settings["tts"]["entries"]]


@system.part("out_tts_*")
def speaking(golden: Golden):
    settings, model = golden.settings["tts"], load_model(golden, "lm_tts")
    run = Speaking(model, machine_of(golden, model.config.text_card + 1), settings["delay_steps"], settings["n_q"],
                   temperature=0.0, final_padding=settings["final_padding"], max_frames=settings["max_gen_length"],
                   padding_bonus=settings["padding_bonus"])
    made = {"out_tts_frames": torch.stack(list(run.frames(words_of(golden), attributes(golden))), dim=-1),
            "out_tts_end_steps": torch.tensor([reading.end for reading in run.readings])}
    for row, (said, reading) in enumerate(zip(run.said, run.readings)):
        made |= {f"out_tts_logged_{row}": torch.tensor(said), f"out_tts_consumption_{row}": torch.tensor(reading.begun)}
    return made


@system.part("out_machine_trace_*")
def machine(golden: Golden):
    made = {}
    for name in golden.names("out_machine_trace_*"):
        machine = machine_of(golden, golden.settings["lm_tts"]["lm_kwargs"]["text_card"] + 1,
                             int(name.removeprefix("out_machine_trace_ahead")))
        reading, rows = machine.begin(words_of(golden)[0]), []
        for step, token in enumerate(golden.settings["tts"]["scripted"]):
            output, begun = machine.feed(step, reading, token)
            rows.append([token, output, int(begun), -1 if reading.end is None else reading.end])
        made[name] = torch.tensor(rows)
    return made


@system.part("out_stt_*")
def writing(golden: Golden):
    model, audio = load_model(golden, "lm_stt"), golden["in_stt_audio"]
    session, texts, heads = StreamSession(model, len(audio)), [], []
    with session.open():
        for step in range(audio.shape[-1]):
            texts.append(session.step(audio[:, :, step]))
            heads.append(session.heads())
    return {"out_stt_text": torch.stack(texts, dim=-1), "out_stt_heads": torch.stack(heads, dim=2)}
