"""VoxCPM: text to speech by continuous tokens.

The sizes of VoxCPM 1.5 follow from its published files, byte for byte; the others are those of their config.json, which
:mod:`photophone.generators.voxcpm.config` reads.
"""

from __future__ import annotations

from typing import Any

from photophone.loading.entry import Chain, ModelEntry

LICENCES = {"code_licence": "Apache-2.0", "weights_licence": "Apache-2.0"}
FACTORS_64 = [
    1.0004360675811768, 1.0668443441390991, 1.1631425619125366, 1.3025742769241333, 1.5040205717086792,
    1.7941505908966064, 2.2101221084594727, 2.802666664123535, 3.6389970779418945, 4.804192543029785, 6.39855432510376,
    8.527148246765137, 11.277542114257812, 14.684998512268066, 18.69317054748535, 23.13019371032715, 27.72362518310547,
    32.1606559753418, 36.168827056884766, 39.57627868652344, 42.32667541503906, 44.45526885986328, 46.04962921142578,
    47.21482849121094, 48.05115509033203, 48.64370346069336, 49.05967712402344, 49.34980392456055, 49.551246643066406,
    49.69068145751953, 49.78697967529297, 49.85338592529297]
"""Divisors of the rotary frequencies of MiniCPM4-0.5B, whose heads have 64 channels."""
FACTORS_128 = [
    0.9977997200264581, 1.014658295992452, 1.0349680404997148, 1.059429246056193, 1.0888815016813513,
    1.1243301355211495, 1.166977103606075, 1.2182568066927284, 1.2798772354275727, 1.3538666751582975,
    1.4426259039919596, 1.5489853358570191, 1.6762658237220625, 1.8283407612492941, 2.0096956085876183,
    2.225478927469756, 2.481536379650452, 2.784415934557119, 3.1413289096347365, 3.560047844772632, 4.048719380066383,
    4.615569542115128, 5.2684819496549835, 6.014438591970396, 6.858830049237097, 7.804668263503327, 8.851768731513417,
    9.99600492938444, 11.228766118181639, 12.536757560834843, 13.902257701387796, 15.303885189125953,
    16.717837610115794, 18.119465097853947, 19.484965238406907, 20.792956681060105, 22.02571786985731,
    23.16995406772833, 24.217054535738416, 25.16289275000465, 26.007284207271347, 26.753240849586767,
    27.40615325712662, 27.973003419175363, 28.461674954469114, 28.880393889607006, 29.237306864684626,
    29.540186419591297, 29.79624387177199, 30.01202719065413, 30.193382037992453, 30.34545697551969,
    30.47273746338473, 30.579096895249787, 30.66785612408345, 30.741845563814174, 30.80346599254902,
    30.85474569563567, 30.897392663720595, 30.932841297560394, 30.962293553185553, 30.986754758742034,
    31.007064503249293, 31.02392307921529]
"""The same of VoxCPM 2, whose heads have 128."""
TINY_STACK = {"width": 32, "depth": 1, "num_heads": 4, "hidden": 64, "head_dim": 8}
TINY = {"vocab_size": 128, "width": 32, "depth": 2, "num_heads": 4, "hidden": 64, "num_kv_heads": 2, "head_dim": 8,
        "residual_depth": 1, "token_dim": 16, "patch_size": 2, "code_dim": 16, "local_encoder": TINY_STACK,
        "local_dit": TINY_STACK, "rotary_factors": [1.2, 1.1, 1.0, 1.3], "max_length": 48}


def _local(depth: int, **options: Any) -> dict[str, Any]:
    """The transformer over a patch."""
    return {"width": 1024, "depth": depth, "num_heads": 16, "hidden": 4096, **options}


def _voxcpm(name: str, vae: str, summary: str, hub_id: str, file: str, parameters: int, config: dict[str, Any],
            paper: str = "2509.24650") -> ModelEntry:
    chain = Chain({"voxcpm": name}, ("vae", vae), {"num_inference_steps": 10, "guidance_scale": 2.0},
                  pipeline="TextToSpeechPipeline", text_tokenizer=hub_id)
    return ModelEntry(name, "generator", "photophone.generators.voxcpm.model:VoxCPM", summary, paper, **LICENCES,
                      config=config, hub_id=hub_id, files=(file,), tiny=TINY, chain=chain, parameters=parameters,
                      tiny_sampler={"num_inference_steps": 3, "max_patches": 3, "min_patches": 3})


ENTRIES = [
    _voxcpm("voxcpm-0.5b", "voxcpm-vae-16k",
            "Chinese and English text to the tokens of voxcpm-vae-16k, 0.65B parameters",
            "openbmb/VoxCPM-0.5B", "pytorch_model.bin", 652_287_296, {"rotary_factors": FACTORS_64}),
    _voxcpm("voxcpm-1.5", "voxcpm-vae-44k",
            "Chinese and English text to the tokens of voxcpm-vae-44k, 0.80B parameters",
            "openbmb/VoxCPM1.5", "model.safetensors", 801_729_856,
            {"rotary_factors": FACTORS_64, "patch_size": 4, "residual_depth": 8, "local_encoder": _local(8),
             "local_dit": _local(8)}),
    _voxcpm("voxcpm-2", "voxcpm-vae-48k", "text of 30 languages to the tokens of voxcpm-vae-48k, 2.29B parameters",
            "openbmb/VoxCPM2", "model.safetensors", 2_290_004_544,
            {"width": 2048, "depth": 28, "hidden": 6144, "head_dim": 128, "rotary_factors": FACTORS_128,
             "patch_size": 4, "residual_depth": 8, "residual_rotary": False, "code_dim": 512,
             "local_encoder": _local(12, head_dim=128), "local_dit": _local(12, head_dim=128), "concatenate": True,
             "context_patches": 3, "max_length": 8192}, "2606.06928"),
]
