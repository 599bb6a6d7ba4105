#!/usr/bin/env bash
# wetext returns quotation marks with a backslash before each: they are part of the text that a voice is given.
#
# The marks are escaped for the inside of the grammar, and what comes out is not unescaped. CosyVoice's front end and
# others pass the result on to the tokenizer.
#
# Seen with wetext 0.1.8, Python 3.11: 'he said "12" twice' becomes 'he said \"twelve\" twice', in English and Chinese.
#
# For users: replace \" by " behind it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check wetext==0.1.8

cat > "$folder/look.py" <<'PY'
from wetext import Normalizer

english = Normalizer(lang="en").normalize('he said "12" twice')
chinese = Normalizer(lang="zh").normalize('他说"12"')
print(english, chinese)
assert english == r'he said \"twelve\" twice'
assert chinese == r'他说\"十二\"'
PY
cd "$folder"
"$folder/env/bin/python" "$folder/look.py"
