"""What mkdocs does to a page: links to files outside docs/ become their names, because the site does not hold them."""

from __future__ import annotations

import re
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)]+)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """As mkdocs calls it for each page."""
    return OUTSIDE.sub(r"\1 (`\2`)", markdown)
