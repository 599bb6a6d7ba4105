"""ARRA and FPDM from official files: recorded weights, and parts drawn for them."""

import arra
import fpdm
import orthus
import pytest
import torch
from golden import Golden
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from photophone import ClassToImagePipeline, TextToImagePipeline, create_model
from photophone.generators.arra.model import TURN_END
from photophone.loading.registry import find

DATA = arra.__file__.replace("arra.py", "data")


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def arra_pipeline(folder):
    """The recorded language model with the recorded VQGAN of Orthus, which has 16 codes of 24, in one folder."""
    golden, other = Golden(f"{DATA}/arra"), Golden(f"{DATA}/orthus")
    text, shape = golden.settings["text"], golden.settings["chameleon"]
    save_file(load_file(f"{DATA}/arra/weights.safetensors"), folder / "model.safetensors")
    words = Tokenizer(models.WordLevel({"<unk>": 0, TURN_END: 1, "red": 2, "circle": 3}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>",
                            additional_special_tokens=[TURN_END]).save_pretrained(folder)
    vq = orthus.vqgan(other, orthus.ChameleonVQ)
    return TextToImagePipeline.from_original(
        "arra-adapt-mimic-7b", arra=folder / "model.safetensors", vq=f"{DATA}/orthus/weights.safetensors",
        text_tokenizer=folder, tokenizer_config=dict(vq.config), generator_config={
            "num_tokens": 16, "num_codes": 24, "vocab_size": text["vocab_size"], "image_start": 40, "image_end": 41,
            "image_head": [42, 42], "row_end": 43, "width": text["hidden_size"], "depth": text["num_hidden_layers"],
            "num_heads": text["num_attention_heads"], "num_kv_heads": text["num_key_value_heads"],
            "hidden": text["intermediate_size"], "eps": shape["rms_norm_eps"]})


def test_arra_draws_prompts_from_its_files(tmp_path):
    pipeline = arra_pipeline(tmp_path)
    condition = pipeline.encode_prompts(["red circle", "red"])
    assert condition.ids.tolist() == [[2, 3, 1], [0, 2, 1]] and condition.null_ids.tolist() == []
    result = pipeline(["red circle", "red"], generator=seeded(1, 2), output_type="latent", top_k=0)
    assert result.images.values.shape == (2, 16) and result.settings["guidance_scale"] == 4.0
    alone = pipeline("red", generator=seeded(2)[0], output_type="latent", top_k=0)
    assert torch.equal(alone.images.values[0], result.images.values[1])
    assert pipeline("red", generator=seeded(1)[0]).images[0].size == (8, 8)


def test_rows_of_arra_end_with_their_id(tmp_path):
    """Greedy codes are the likeliest behind the whole sequence in which each row of codes has its end."""
    pipeline = arra_pipeline(tmp_path)
    model, condition = pipeline.token_generator, pipeline.encode_prompts(["red circle"])
    tokens = pipeline("red circle", output_type="latent", temperature=0.0, guidance_scale=1.0).images
    ids, mask = model.sequence(tokens, condition)
    assert ids[0, 3:6].tolist() == [40, 42, 42] and ids[0, 10::5].tolist() == [43] * 4 and int(ids[0, -1]) == 41
    with torch.no_grad():
        logits = model.text_head(model.states(ids, mask))[0, 5:-2, 4:28]
    predicted = logits.argmax(dim=-1) + 4
    wanted = ids[0, 6:-1]
    assert torch.equal(predicted[wanted != 43], wanted[wanted != 43])


def parting(pipeline, **options):
    """How far a row of a batch is from the same row alone, as a share of the largest latent.

    Rows know nothing of each other: in float64 they are equal to the last bit of their float32 latents. In float32 a
    batch rounds otherwise than a row, and every iteration with these untrained weights doubles that: 2.6e-6 to 1.3e-5
    of the largest latent, which is about 1,400, over seven seeds. From float64 it is as far: 4.3e-6 with this seed.
    """
    both = pipeline([1, 3], generator=seeded(1, 2), output_type="latent", **options).images.values[1]
    alone = pipeline(3, generator=seeded(2)[0], output_type="latent", **options).images.values[0]
    return float((both - alone).abs().max() / alone.abs().max())


def test_fpdm_runs_from_its_file(tmp_path):
    golden = Golden(f"{DATA}/fpdm")
    model = fpdm.load(golden)
    config = {**find("sd-vae-ft-mse").tiny, "latent_width": model.config.token_dim,
              "image_size": 4 * model.config.grid_size}
    torch.manual_seed(0)
    vae = create_model("sd-vae-ft-mse", **config).eval()
    vae.save_pretrained(tmp_path / "vae")
    pipeline = ClassToImagePipeline.from_original("fpdm-xl", fpdm=f"{DATA}/fpdm/weights.safetensors",
                                                  vae=tmp_path / "vae", generator_config=dict(model.config))
    pipeline.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 3, "num_iterations": 2}
    assert parting(pipeline, **options) < 2e-5
    pipeline.token_generator.double()
    assert parting(pipeline, **options) < 1e-6
    pipeline.token_generator.float()
    (image,) = pipeline(1, generator=seeded(1)[0], **options).images
    assert image.size == (config["image_size"],) * 2
    with pytest.raises(ValueError, match=r"the weights of fpdm-xl are on no hub; give their file"):
        ClassToImagePipeline.from_original("fpdm-xl", vae=tmp_path / "vae")
