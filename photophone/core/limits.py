"""Every limit on what users may ask for, in one place."""

MAX_PROMPT_CHARACTERS = 1_000
MAX_IMAGES_PER_CALL = 64
MAX_INFERENCE_STEPS = 1_000
MAX_GUIDANCE_SCALE = 30.0
MAX_TEMPERATURE = 2.0
MAX_MASKED_TEMPERATURE = 20.0
"""Of masked decoding of codes, where it falls to 0 and published settings go up to 11."""
MAX_PIXELS = 64_000_000
"""Of an image that is read."""
MAX_IMAGE_BYTES = 64_000_000
MAX_ICON_SET_BYTES = 200_000_000
"""Of a file of a package of icons."""
MAX_CLIP_SECONDS = 60
"""Of a recording used in training."""
MAX_NOISE_SECONDS = 1_200
"""Of a noise used in training."""
MIN_SAMPLE_RATE = 4_000
MAX_SAMPLE_RATE = 192_000
MAX_CHANNELS = 2
MAX_AUDIO_FRAMES = 200_000_000
"""Of an audio file that is read: 69 minutes at 48 kHz."""
MAX_AUDIO_BYTES = 1_600_000_000

MAX_TEXT_CHARACTERS = 200_000
"""Of one text that is read aloud: about four hours of speech."""
MAX_TEXTS_PER_CALL = 64
MAX_VOICE_SECONDS = 60
"""Of the recording of a voice to speak with."""
SPEED_RANGE = (0.5, 2.0)
MAX_PAUSE_SECONDS = 10.0
MAX_ENHANCEMENT_PASSES = 8

DEMO_QUEUE = 16
"""Requests that wait in the demo, beside those that run; others are told that the queue is full."""
DEMO_IMAGES = 8
DEMO_IMAGE_STEPS = 50
DEMO_SPEECH_STEPS = 32
DEMO_GUIDANCE_SCALE = 10.0
DEMO_TEXT_CHARACTERS = 800
"""Of a text that the demo reads aloud: about a minute."""
DEMO_CLIP_SECONDS = 60.0
"""Of a recording that the demo takes, and of speech that it makes."""
DEMO_JOB_SECONDS = 120.0
"""After so long a job of the demo is stopped."""
DEMO_SEED = 2**32 - 1
DEMO_UPLOAD_BYTES = 24_000_000
"""Of one upload: a minute of 48 kHz stereo with 32 bits."""
DEMO_UPLOAD_PIXELS = 25_000_000
DEMO_REQUEST_BYTES = 200_000
"""Of any other request."""
DEMO_DISK_BYTES = 1_000_000_000
"""Of all uploads and results that the demo holds; uploads beyond are refused."""
DEMO_KEEP_SECONDS = 600.0
"""After so long uploads and results are deleted."""
DECODER_WALL_SECONDS = 4.0
DECODER_CPU_SECONDS = 4
DECODER_MEMORY_BYTES = 1_200_000_000
"""Address space of the process that decodes an upload."""

MAX_ENGINE_REQUESTS = 256
"""That a decoding engine works on at the same time."""
MAX_ENGINE_QUEUE = 100_000
"""Requests that may wait for a decoding engine."""
