"""photophone: multimodal generative models of images, audio and speech on sequences of tokens."""
