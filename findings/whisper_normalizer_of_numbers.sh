#!/usr/bin/env bash
# Whisper's English normaliser, the usual first step of a word error rate, makes wrong words of numbers.
#
# It turns number words into digits on both sides, so that "twenty five" and "25" agree. But a minus sign in front of
# digits is dropped, and "a half" is joined to a word that was "one", which it writes back as a word: the same speech,
# once written with words and once with digits, then has other words. A recogniser that hears everything gets errors, and
# one that misses a minus sign gets none.
#
# Seen with transformers 5.24.0 (no torch needed), Python 3.11:
#   "It was -5 degrees": "it was 5 degrees"; "It was minus five degrees": "it was -5 degrees"
#   "One and a half hours": "one.5 hours"; "1.5 hours": "1.5 hours"; "Two and a half hours": "2.5 hours"
#
# For users: bring both sides to words yourself and leave its numbers out.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0

cat > "$folder/look.py" <<'PY'
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

normalize = EnglishTextNormalizer({})
texts = ["It was -5 degrees", "It was minus five degrees", "One and a half hours", "1.5 hours", "Two and a half hours"]
found = {text: normalize(text).strip() for text in texts}
for text, made in found.items():
    print(f"{text!r}: {made!r}")
assert found["It was -5 degrees"] == "it was 5 degrees" and found["It was minus five degrees"] == "it was -5 degrees"
assert found["One and a half hours"] == "one.5 hours" and found["1.5 hours"] == "1.5 hours"
assert found["Two and a half hours"] == "2.5 hours"
PY
cd "$folder"
"$folder/env/bin/python" "$folder/look.py"
