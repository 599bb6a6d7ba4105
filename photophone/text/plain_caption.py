"""The plain form of captions that vocabularies and guides are made of."""

from __future__ import annotations

import unicodedata


def normalize_caption(text: str) -> str:
    """Lower case, compatibility forms, no accents, typographic quotes made plain, single spaces."""
    text = unicodedata.normalize("NFKD", text).lower()
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = text.translate(str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-"}))
    return " ".join(text.split())
