"""Tokens: shapes, refusals, slices, files."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from photophone import Tokens

SINGLE = torch.arange(12).reshape(3, 4)
BOOKS = torch.arange(24).reshape(3, 2, 4)
FLOATS = torch.linspace(-1, 1, 24).reshape(3, 4, 2)
LENGTHS = torch.tensor([4, 0, 2])


@pytest.mark.parametrize("values", [SINGLE, BOOKS, FLOATS], ids=["single", "books", "floats"])
def test_shapes_of_each_kind(values):
    tokens = Tokens(values)
    assert len(tokens) == 3 and tokens.num_tokens == 4
    assert tokens.is_continuous == values.is_floating_point()
    assert tokens.mask.shape == (3, 4) and bool(tokens.mask.all())


def test_mask_follows_lengths():
    mask = Tokens(BOOKS, LENGTHS).mask
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[True] * 4, [False] * 4, [True, True, False, False]]


@pytest.mark.parametrize(("values", "lengths", "words"), [
    (torch.zeros(4), None, r"float \(B, N, D\)"),
    (torch.zeros(3, 4), None, r"float \(B, N, D\)"),
    (torch.zeros(1, 2, 3, 4), None, r"\(1, 2, 3, 4\)"),
    (SINGLE.int(), None, "torch.int32"),
    (SINGLE.bool(), None, "torch.bool"),
    (torch.arange(3), None, r"Long \(B, N\)"),
    (torch.zeros(1, 2, 3, 4, dtype=torch.long), None, r"Long \(B, N\)"),
    (SINGLE, torch.tensor([1, 2]), r"lengths must be Long \(3,\)"),
    (SINGLE, LENGTHS.int(), "torch.int32"),
    (SINGLE, torch.tensor([1, 2, 5]), r"0\.\.4"),
    (BOOKS, torch.tensor([-1, 2, 4]), r"0\.\.4"),
    (FLOATS, torch.tensor([1, 2, 5]), r"0\.\.4"),
])
def test_wrong_shapes_and_dtypes_are_refused(values, lengths, words):
    with pytest.raises(ValueError, match=words):
        Tokens(values, lengths)


@pytest.mark.parametrize("rows", [1, -2, np.int64(1), torch.tensor(1), slice(1, 2), [1], torch.tensor([1]),
                                  torch.tensor([False, True, False])], ids=str)
@pytest.mark.parametrize("values", [SINGLE, BOOKS, FLOATS], ids=["single", "books", "floats"])
def test_rows_stay_a_batch(values, rows):
    part = Tokens(values, LENGTHS, "model-a")[rows]
    assert torch.equal(part.values, values[1:2])
    assert part.lengths.tolist() == [0] and part.model == "model-a"


def test_rows_outside_the_batch_are_refused():
    for row in (3, -4):
        with pytest.raises(IndexError, match="batch of 3"):
            Tokens(SINGLE)[row]


def test_dtypes_apply_to_continuous_tokens_alone():
    """As with ``nn.Module.to``: codes are no numbers to round."""
    assert Tokens(FLOATS).to(torch.bfloat16).values.dtype == torch.bfloat16
    for values in (SINGLE, BOOKS):
        moved = Tokens(values, LENGTHS).to("cpu", torch.bfloat16)
        assert torch.equal(moved.values, values) and moved.values.dtype == torch.long
        assert moved.lengths.dtype == torch.long


@pytest.mark.parametrize("values", [SINGLE, BOOKS, FLOATS, FLOATS.half(), BOOKS.transpose(1, 2)],
                         ids=["single", "books", "floats", "half", "not contiguous"])
@pytest.mark.parametrize("lengths", [None, LENGTHS.clamp(max=2)], ids=["full", "lengths"])
def test_files_give_back_what_was_saved(tmp_path, values, lengths):
    path = tmp_path / "new" / "tokens.safetensors"
    Tokens(values, lengths, "model-a").save(path)
    again = Tokens.load(path, "model-a")
    assert again.values.dtype == values.dtype and torch.equal(again.values, values) and again.model == "model-a"
    assert again.lengths is None if lengths is None else torch.equal(again.lengths, lengths)
    assert [file.name for file in path.parent.iterdir()] == ["tokens.safetensors"]


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "tokens.safetensors"
    Tokens(SINGLE).save(path)
    with pytest.raises(Exception, match="str"):  # safetensors refuses a model name that is no string
        Tokens(SINGLE + 1, model=3).save(path)
    assert torch.equal(Tokens.load(path).values, SINGLE)
    assert [file.name for file in tmp_path.iterdir()] == ["tokens.safetensors"]


def test_saved_files_have_the_usual_permissions(tmp_path):
    Tokens(SINGLE).save(tmp_path / "tokens.safetensors")
    (tmp_path / "plain").touch()
    assert (tmp_path / "tokens.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_tokens_of_another_model_are_refused(tmp_path):
    Tokens(SINGLE, model="model-a").save(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="'model-a' and cannot be decoded by 'model-b'"):
        Tokens.load(tmp_path / "a.safetensors", "model-b")
    Tokens(SINGLE).save(tmp_path / "unnamed.safetensors")
    assert Tokens.load(tmp_path / "unnamed.safetensors", "model-b").model is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(tmp_path, bad):
    values = FLOATS.clone()
    values[1, 2, 0] = bad
    Tokens(values).save(tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match="NaN or infinite"):
        Tokens.load(tmp_path / "bad.safetensors")


@pytest.mark.parametrize(("tensors", "metadata", "words"), [
    ({"values": SINGLE}, None, "holds no tokens"),
    ({"values": SINGLE}, {"format": "pt"}, "holds no tokens"),
    ({"weights": SINGLE}, {"format": "photophone.core.tokens"}, "holds no tokens"),
    ({"values": SINGLE, "more": SINGLE + 1}, {"format": "photophone.core.tokens"}, "unknown tensors"),
    ({"values": SINGLE.int()}, {"format": "photophone.core.tokens"}, "torch.int32"),
    ({"values": SINGLE, "lengths": torch.tensor([9, 9, 9])}, {"format": "photophone.core.tokens"}, r"0\.\.4"),
])
def test_other_files_are_refused(tmp_path, tensors, metadata, words):
    save_file(tensors, tmp_path / "other.safetensors", metadata=metadata)
    with pytest.raises(ValueError, match=words):
        Tokens.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 60, -8])
def test_truncated_files_are_refused(tmp_path, keep):
    path = tmp_path / "tokens.safetensors"
    Tokens(FLOATS).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="not a safetensors file"):
        Tokens.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.safetensors"):
        Tokens.load(tmp_path / "nothing.safetensors")
