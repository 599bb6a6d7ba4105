"""Every limit on what users may ask for, in one place."""

# Pipelines: one call.
MAX_PROMPT_CHARACTERS = 1_000
MAX_CAPTION_TOKENS = 10_000  # that a vocabulary of captions may be for
MAX_IMAGES_PER_CALL = 64
MAX_EDIT_ROUNDS = 64  # of inpainting
MAX_PROMPTS_IN_FILE = 10_000
MAX_PROMPT_FILE_BYTES = 16_000_000
MAX_ANSWER_IDS = 8_192  # of text in one answer of text and images
MAX_INFERENCE_STEPS = 1_000
MAX_GUIDANCE_SCALE = 30.0
MAX_TEMPERATURE = 2.0
MAX_MASKED_TEMPERATURE = 20.0  # of masked decoding, whose temperature falls to 0; published settings start at up to 11
MAX_TEXT_CHARACTERS = 200_000  # of one text that is read aloud: about four hours of speech
MAX_TEXTS_PER_CALL = 64
MAX_VOICE_SECONDS = 60  # of the recording of a voice to speak with
SPEED_RANGE = (0.5, 2.0)
MAX_PAUSE_SECONDS = 10.0
MAX_MARKUP_ELEMENTS = 20_000  # of a text that is read aloud
MAX_MARKUP_DEPTH = 32
VOLUME_RANGE = (-40.0, 12.0)  # dB, of markup
MAX_LEXICON_ENTRIES = 200_000
MAX_LEXICON_BYTES = 20_000_000
MAX_ENHANCEMENT_PASSES = 8

# Files that are read.
MAX_PIXELS = 64_000_000  # of an image
MAX_IMAGE_BYTES = 64_000_000
MAX_ICON_SET_BYTES = 200_000_000  # of a file of a package of icons
MIN_SAMPLE_RATE = 4_000  # Hz, of a recording
MAX_SAMPLE_RATE = 192_000
MAX_CHANNELS = 2
MAX_AUDIO_FRAMES = 200_000_000  # of a recording: 69 minutes at 48 kHz
MAX_AUDIO_BYTES = 1_600_000_000
MAX_SAMPLE = 1_000.0  # of a recording with float samples, where full scale is 1: 60 dB over it

# Training.
MAX_BATCH_SIZE = 1_000_000  # examples a step; their numbers alone are drawn one by one
MAX_CLIP_SECONDS = 60  # of a recording
MAX_NOISE_SECONDS = 1_200  # of a recording of noise that is mixed in

# The demo.
DEMO_QUEUE = 16  # requests that wait, beside those that run; others are told that the queue is full
DEMO_IMAGES = 8
DEMO_IMAGE_STEPS = 50
DEMO_SPEECH_STEPS = 32
DEMO_GUIDANCE_SCALE = 10.0
DEMO_TEXT_CHARACTERS = 800  # of a text that is read aloud: about a minute
DEMO_CLIP_SECONDS = 60.0  # of a recording that comes in, and of speech that is made
DEMO_MICROPHONES = 4  # that are made clean at a time
DEMO_JOB_SECONDS = 120.0  # after so long a job is stopped
DEMO_SEED = 2**32 - 1  # the largest seed
DEMO_UPLOAD_BYTES = 24_000_000  # of one upload: a minute of 48 kHz stereo with 32 bits
DEMO_UPLOAD_PIXELS = 25_000_000
DEMO_REQUEST_BYTES = 200_000  # of any request that is not an upload
DEMO_DISK_BYTES = 1_000_000_000  # of all uploads and results that are held; uploads beyond are refused
DEMO_KEEP_SECONDS = 600.0  # after so long uploads and results are deleted

# The server.
SERVER_QUEUE = 32  # requests of one kind that wait, beside those that are worked on; others get 429
SERVER_BATCH = 16  # sentences or images that are made together
SERVER_SECONDS = 120.0  # from a request to its result
SERVER_BODY_SECONDS = 30.0  # until a request has arrived whole
SERVER_SEND_SECONDS = 60.0  # until a client takes the next part of an answer
SERVER_CONNECTIONS = 512  # at a time
SERVER_HEADER_BYTES = 32_000  # of all headers of a request
SERVER_REQUEST_BYTES = 200_000  # of a request that is not an upload
SERVER_VOICE_BYTES = 4_000_000  # of a recorded voice in base64: a minute at 24 kHz
SERVER_PICTURE_BYTES = 12_000_000  # of a picture, or a mask, that is edited
SERVER_UPLOAD_BYTES = DEMO_UPLOAD_BYTES + 20_000  # of an upload, with what surrounds the file
SERVER_NAME_CHARACTERS = 200  # of a model or a voice
SERVER_TEXT_CHARACTERS = 4_096  # that are read aloud: about five minutes
SERVER_INSTRUCTION_CHARACTERS = 1_000
SERVER_IMAGES = 10  # of one request
SERVER_STEPS = 100  # of a sampler
SERVER_SEED = 2**62  # the largest seed; those of further images follow it

# The process that decodes an upload of the demo or the server.
DECODER_WALL_SECONDS = 4.0
DECODER_CPU_SECONDS = 4
DECODER_MEMORY_BYTES = 1_200_000_000  # address space

# A decoding engine.
MAX_ENGINE_REQUESTS = 256  # that are worked on at the same time
MAX_ENGINE_QUEUE = 100_000  # requests that wait

# Checkpoints and saved models.
MAX_CHECKPOINT_BYTES = 200_000_000_000  # of one file of weights
MAX_CONFIG_BYTES = 20_000_000  # of a config or an index; vocabularies have a limit of their own
MAX_VOCABULARY_BYTES = 200_000_000  # of a JSON file beside a text encoder
MAX_MODEL_ELEMENTS = 20_000_000_000  # numbers in a model that is built: 80 GB in float32
MAX_MODEL_TENSORS = 200_000  # tensors that its constructor may make
MAX_CONFIG_NUMBER = 100_000_000  # any whole number of a config
MAX_CONFIG_DEPTH = 1_024  # layers, blocks or heads
MAX_CONFIG_BITS = 24  # bits of a code
MAX_CONFIG_ITEMS = 10_000  # of one list or table of a config
