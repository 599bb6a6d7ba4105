"""dMel: mels, levels, special frames."""

from __future__ import annotations

import torch
from golden import Golden, System

from photophone.codecs.dmel.model import DMel, special_frames

system = System("dmel")
NAMES = {"sampling_freq": "sample_rate", "n_fft": "n_fft", "frame_size_ms": "window_ms", "frame_stride_ms": "hop_ms",
         "n_filterbank": "num_mels", "low_freq": "f_min", "high_freq": "f_max", "n_bits": "bits",
         "quantize_min_value": "lowest", "quantize_max_value": "highest"}


@system.part("*")
def everything(golden: Golden):
    given = {**golden.config["logmelfbank"], **golden.config["discretizer"]}
    model = golden.load(DMel, **{NAMES[name]: value for name, value in given.items()})
    wave, lengths = golden["in_wav"], golden["in_lengths"]
    tokens = model.encode(wave[:, None])
    frames = tokens.values.transpose(1, 2)  # (B, N, mels)
    ids, id_lengths = special_frames(frames, model.token_lengths(lengths), model.config.bits)
    table = model.levels.table
    dead = [model.config.highest + 2, model.config.highest + 3]  # columns of special ids that no id reaches
    return {"mid_power": model.mel.magnitudes(wave), "out_logmel": model.mel(wave).transpose(1, 2),
            "out_logmel_len": model.token_lengths(lengths), "out_ids_nospecial": frames, "out_ids": ids,
            "out_ids_len": id_lengths, "out_inv": model.log_mels(tokens).transpose(1, 2),
            "out_edge": model.levels.nearest(golden["in_edge"]),
            "out_table": torch.cat([table, table.new_tensor(dead)]).expand(model.num_codebooks, -1)}
