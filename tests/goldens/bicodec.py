"""BiCodec: both streams of codes, synthesis, the training forward, and the volume of clips."""

from __future__ import annotations

from golden import Golden, System

from photophone.codecs.bicodec.model import BiCodec, normalize_volume

system = System("bicodec")
NET_NAMES = {"in_channels": "input_channels", "width": "vocos_dim", "hidden": "vocos_intermediate_dim",
             "depth": "vocos_num_layers", "out_channels": "out_channels", "ratios": "sample_ratios",
             "condition_dim": "condition_dim", "tanh": "use_tanh_at_final"}


def net(settings: dict) -> dict:
    return {ours: settings[theirs] for ours, theirs in NET_NAMES.items() if theirs in settings}


def load(golden: Golden) -> BiCodec:
    settings = golden.settings
    mel, speaker, wave, book = (settings[name] for name in ("mel_params", "speaker_encoder", "decoder", "quantizer"))
    return golden.load(
        BiCodec, features=None, sample_rate=mel["sample_rate"],
        mel={"n_fft": mel["n_fft"], "window_length": mel["win_length"], "hop_length": mel["hop_length"],
             "f_min": mel["mel_fmin"], "f_max": mel["mel_fmax"], "num_mels": mel["num_mels"]},
        speaker={"channels": settings.get("ecapa_width", 512), "dim": speaker["out_dim"],
                 "latent_dim": speaker["latent_dim"], "num_tokens": speaker["token_num"],
                 "levels": speaker["fsq_levels"]},
        semantic=net(settings["encoder"]), prenet_config=net(settings["prenet"]),
        postnet_config=net(settings["postnet"]),
        wave={"in_channels": wave["input_channel"], "channels": wave["channels"], "strides": wave["rates"],
              "kernel_sizes": wave["kernel_sizes"]},
        num_codes=book["codebook_size"], code_dim=book["codebook_dim"], commitment=book["commitment"],
        codebook_weight=book["codebook_loss_weight"], dead_below=book["threshold_ema_dead_code"])


@system.part("mid_*", "out_semantic", "out_global", "out_wav", "out_wav_tok")
def codec(golden: Golden):
    model = load(golden)
    speaker, mels = model.speaker_encoder, model.mel_spectrogram(golden["in_ref_wav"])
    latents, voice = model.latents(golden["in_feat"].transpose(1, 2)), speaker.latents(mels)
    vector, _ = speaker.speaker_encoder(mels)
    semantic, voice_codes = model.bottleneck.encode(latents), model.voice_codes(golden["in_ref_wav"])
    told, values = speaker.voice(speaker.quantizer.decode(voice_codes)), model.bottleneck.decode(semantic)
    audio, frames = model.synthesize(values, told)
    given = speaker.voice(speaker.quantizer.decode(golden["in_global"][:, 0].long()))
    return {"mid_mel": mels, "mid_z": latents.transpose(1, 2), "out_semantic": semantic,
            "out_global": voice_codes[:, None], "mid_xvector": vector,
            "mid_dvector": speaker.voice(speaker.quantizer(voice).values), "mid_zq": values.transpose(1, 2),
            "mid_dvec_detok": told, "mid_prenet": frames, "out_wav": audio,
            "out_wav_tok": model.synthesize(model.bottleneck.decode(golden["in_semantic"]), given)[0]}


@system.part("out_fwd_*", "out_train_*")
def training(golden: Golden):
    model = load(golden)
    features = golden["in_feat"].transpose(1, 2)
    audio, predicted, output = model.predict(features, golden["in_ref_wav"])
    step = model.bottleneck.train()(model.latents(features))
    active = model.update_usage(step.indices)
    return {"out_fwd_recons": audio, "out_fwd_pred_feat": predicted,
            "out_fwd_perplexity": output.metrics["perplexity"], "out_train_vq_loss": step.loss,
            "out_train_cluster_size": model.cluster_size, "out_train_active": active.float()}


@system.part("out_volnorm*")
def volume(golden: Golden):
    return {"out_volnorm": normalize_volume(golden["in_raw_wav"]),
            "out_volnorm_quiet": normalize_volume(golden["in_quiet_wav"])}
