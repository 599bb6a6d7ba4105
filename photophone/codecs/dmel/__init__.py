"""dMel: log-mel channels rounded to a few levels; nothing is trained."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

ENTRIES = [
    ModelEntry("dmel-16k-25ms", "codec", "photophone.codecs.dmel.model:DMel",
               "80 mel channels of 4 bits at 40 Hz, nothing trained", "2407.15835",
               "Apple sample-code licence (reimplemented here)", "no weights", tiny={"iterations": 4}, parameters=0),
    ModelEntry("dmel-16k-12ms", "codec", "photophone.codecs.dmel.model:DMel",
               "80 mel channels of 4 bits at 80 Hz, nothing trained", "2407.15835",
               "Apple sample-code licence (reimplemented here)", "no weights", config={"hop_ms": 12.5},
               tiny={"iterations": 4}, parameters=0),
]
