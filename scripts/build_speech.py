"""Put a trained codec and speech generator together into a pipeline folder with 16-bit weights, as in the wheel."""

from __future__ import annotations

from photophone.training.release import release_command, speech_pipeline

if __name__ == "__main__":
    release_command(__doc__, speech_pipeline, "photophone/tiny-speech", codec="export/ of the codec's run",
                    generator="export/ of the generator's run")
