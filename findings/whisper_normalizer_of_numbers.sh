#!/usr/bin/env bash
# Whisper's English normaliser, the usual first step of a word error rate, makes wrong words of numbers.
#
# It turns number words into digits on both sides, so that "twenty five" and "25" agree. But a minus sign in front of
# digits is dropped, while the word "minus" becomes a sign; and "and a half" is understood behind a number word only, not
# behind digits. The same speech, once written with words and once with digits, then has other words: a recogniser that
# hears everything gets errors, and one that misses a minus sign gets none.
#
# Seen with transformers 5.24.0 (no torch needed), Python 3.11:
#   "It was -5 degrees": "it was 5 degrees"; "It was minus five degrees": "it was -5 degrees"
#   "One and a half hours": "one.5 hours"; "1 and a half hours": "one and a half hours", 4 errors for 2 words
#   "Two and a half hours": "2.5 hours"; "2 and a half hours": "2 and a half hours"
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
expected = {"It was -5 degrees": "it was 5 degrees", "It was minus five degrees": "it was -5 degrees",
            "One and a half hours": "one.5 hours", "1 and a half hours": "one and a half hours",
            "Two and a half hours": "2.5 hours", "2 and a half hours": "2 and a half hours"}
for text in expected:
    print(f"{text!r}: {normalize(text).strip()!r}")
assert {text: normalize(text).strip() for text in expected} == expected
PY
cd "$folder"
"$folder/env/bin/python" "$folder/look.py"
