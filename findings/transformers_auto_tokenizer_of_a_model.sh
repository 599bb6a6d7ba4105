#!/usr/bin/env bash
# AutoTokenizer takes the tokenizer class of the model in the folder, whatever the tokenizer there says it is.
#
# A folder with a tokenizer gives right ids. As soon as a Qwen2 lies beside it, its config.json decides: the class of Qwen2
# is taken, which splits the text as Qwen2 does, and ids are others, without a word. `tokenizer_class` in
# tokenizer_config.json is not heeded. It bites who trains a small model of a known architecture on a vocabulary of his own.
#
# Seen with transformers 5.24.0, tokenizers 0.23.3, torch 2.14.1, Python 3.11:
#   "blue a red" before: [3, 1, 2]; with the model beside it: [1]
#
# For users: load such vocabularies by PreTrainedTokenizerFast.from_pretrained, or keep them in a folder of their own.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 transformers==5.24.0 numpy

cat > "$folder/look.py" <<'PY'
import sys

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2Config, Qwen2Model

place = sys.argv[1]
words = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "red": 2, "blue": 3}, unk_token="<unk>"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>").save_pretrained(place)
alone = AutoTokenizer.from_pretrained(place)
before = alone("blue a red")["input_ids"]

Qwen2Model(Qwen2Config(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
                       num_key_value_heads=1)).save_pretrained(place)
beside = AutoTokenizer.from_pretrained(place)
after = beside("blue a red")["input_ids"]
own = PreTrainedTokenizerFast.from_pretrained(place)("blue a red")["input_ids"]
print(transformers.__version__, type(alone).__name__, before, type(beside).__name__, after, own)
assert before == own == [3, 1, 2]
assert after != before
PY
cd "$folder"
"$folder/env/bin/python" "$folder/look.py" "$folder/model"
