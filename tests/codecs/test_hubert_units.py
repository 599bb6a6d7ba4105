"""HuBERT's units against transformers' whole network, from files of the hub and of fairseq."""

import numpy as np
import pytest
import torch
from tiny import arguments
from transformers import HubertConfig, HubertModel

from photophone.codecs.speech_units.hubert import HubertUnits, read_centres
from photophone.loading.registry import find

TINY = arguments(find("hubert-base-km500"))


@pytest.fixture(scope="module")
def whole():
    """A network with more layers than are read, and centres on its own states."""
    torch.manual_seed(0)
    model = HubertModel(HubertConfig(**TINY["settings"], num_hidden_layers=4)).eval()
    with torch.no_grad():
        states = model(torch.randn(1, 2000), output_hidden_states=True).hidden_states[TINY["layer"]][0]
    return model, states[torch.randperm(len(states))[:10]]


def test_units_are_the_nearest_centres_to_the_states_of_a_layer(whole):
    model, centres = whole
    made = HubertUnits.from_original(model.state_dict(), kmeans={"centres": centres}, **TINY)
    audio = torch.randn(2, 1, 501)
    tokens = made.encode(audio, torch.tensor([501, 300]))
    for row, length in enumerate((501, 300)):
        with torch.no_grad():
            states = model(audio[row, :, :length], output_hidden_states=True).hidden_states[TINY["layer"]][0]
        wanted = torch.cdist(states, centres).argmin(dim=1)
        assert int(tokens.lengths[row]) == len(wanted) == int(made.token_lengths(torch.tensor(length)))
        assert torch.equal(tokens.values[row, :len(wanted)], wanted)
    assert len(torch.unique(tokens.values)) > 2
    assert made.encode(torch.zeros(1, 1, 3)).num_tokens == 1  # filled up by silence
    with pytest.raises(ValueError, match="no way back"):
        made.decode(tokens)


def test_centres_come_as_numbers(tmp_path):
    numbers = np.arange(6, dtype=np.float64).reshape(2, 3)
    np.save(tmp_path / "km.npy", numbers)
    torch.save({"centres": torch.from_numpy(numbers)}, tmp_path / "km.pt")
    for file in ("km.npy", "km.pt"):
        assert torch.equal(read_centres(tmp_path / file), torch.from_numpy(numbers).float())
    np.save(tmp_path / "objects.npy", np.array([{}, {}]), allow_pickle=True)
    for file, words in (("none.npy", "no such file"), ("objects.npy", "no array of numbers")):
        with pytest.raises(ValueError, match=words):
            read_centres(tmp_path / file)
    with pytest.raises(ValueError, match="need the centres of k-means"):
        HubertUnits.from_original({})
