"""CosyVoice's speech tokenizers as ONNX files."""

from photophone.codecs.speech_units.onnx_write import write_s3_onnx


def write_onnx(model, path, **options):
    write_s3_onnx(model, path, **options)
    return path


def without_key_bias(model):
    """The official keys have no bias."""
    for block in model.blocks:
        block.to_qkv.bias.data.view(3, -1)[1] = 0
    return model.eval()
