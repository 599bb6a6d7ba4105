#!/usr/bin/env bash
# diffusers' EMAModel.save_pretrained writes a model whose buffers were never trained.
#
# It averages parameters only, and for saving it makes a fresh model from the config and copies the averages into it. The
# buffers of the fresh model are those of its constructor: a codebook that is kept as a buffer is random, running
# statistics are 0 and 1. The folder loads without a warning, and a quantizer in it decodes other tokens than were
# trained.
#
# Seen with diffusers 0.42.1 and torch 2.14.1, Python 3.11:
#   codebook saved by EMAModel equals the trained one: False; by the model itself: True
#   running means after 20 batches: 0.0 in what EMAModel saved, -0.57 to 0.25 in the model
#
# For users: average buffers yourself (or copy them), and save the model, not the EMAModel.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 diffusers==0.42.1 transformers==5.24.0 accelerate==1.15.0 numpy

cat > "$folder/look.py" <<'PY'
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.training_utils import EMAModel


class Tokenizer(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(self, width: int = 3):
        super().__init__()
        self.linear = torch.nn.Linear(width, width)
        self.norm = torch.nn.BatchNorm1d(width)
        self.register_buffer("codebook", torch.randn(8, width))

    def forward(self, x):
        return self.norm(self.linear(x))


torch.manual_seed(0)
model = Tokenizer()
average = EMAModel(model.parameters(), model_cls=Tokenizer, model_config=model.config)
for _ in range(20):
    model(torch.randn(16, 3) + 1)
    average.step(model.parameters())
average.save_pretrained("average")
model.save_pretrained("plain")
saved, plain = Tokenizer.from_pretrained("average"), Tokenizer.from_pretrained("plain")
print("codebook of the average is the trained one:", torch.equal(saved.codebook, model.codebook), "of the model:",
      torch.equal(plain.codebook, model.codebook))
print("running means", saved.norm.running_mean.tolist(), "trained", model.norm.running_mean.tolist())
assert not torch.equal(saved.codebook, model.codebook) and torch.equal(plain.codebook, model.codebook)
assert saved.norm.running_mean.abs().max() == 0 < model.norm.running_mean.abs().max()
PY
cd "$folder"
"$folder/env/bin/python" "$folder/look.py"
