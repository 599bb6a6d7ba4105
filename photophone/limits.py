"""Every limit on what users may ask for, in one place."""

MAX_PROMPT_CHARACTERS = 1_000
MAX_IMAGES_PER_CALL = 64
MAX_INFERENCE_STEPS = 1_000
MAX_GUIDANCE_SCALE = 30.0
MAX_TEMPERATURE = 2.0
MAX_PIXELS = 64_000_000
"""Of an image that is read."""
MAX_IMAGE_BYTES = 64_000_000
