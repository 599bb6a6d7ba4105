"""The demo app of ``photophone demo``: one file a tab, each on the library's own pipelines.

Nothing is reported to anybody: :mod:`photophone.core.privacy` switches gradio's analytics off before anything imports
gradio.
"""

import tempfile
from pathlib import Path

GRADIO_FOLDER = Path(tempfile.gettempdir(), "gradio")
"""gradio makes it when it is imported, whatever folder it is told to use."""
WAS_THERE = GRADIO_FOLDER.exists()
