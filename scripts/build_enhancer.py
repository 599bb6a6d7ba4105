"""Put a trained enhancer into a pipeline folder with 16-bit weights, as in the wheel."""

from __future__ import annotations

from photophone.training.release import enhancement_pipeline, release_command

if __name__ == "__main__":
    release_command(__doc__, enhancement_pipeline, "photophone/tiny-enhance", enhancer="export/ of the enhancer's run")
