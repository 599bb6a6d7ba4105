"""Put a trained image tokenizer and generator together into a pipeline folder with 16-bit weights, as in the wheel."""

from __future__ import annotations

from photophone.training.release import image_pipeline, release_command

if __name__ == "__main__":
    release_command(__doc__, image_pipeline, "photophone/tiny-image",
                    image_tokenizer="export/ of the tokenizer's run", generator="export/ of the generator's run",
                    matting="export/ of the matting network's run, for transparent pictures",
                    upscaler="export/ of the upscaler's run, for pictures of twice the size")
