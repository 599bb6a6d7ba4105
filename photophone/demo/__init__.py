"""The demo app of ``photophone demo``: one file a tab, each on the library's own pipelines.

Nothing is reported to anybody: gradio's analytics are switched off here, before anything imports gradio.
"""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
