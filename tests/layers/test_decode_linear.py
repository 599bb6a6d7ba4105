"""Linear layers and blocks packed for decoding, against float64 and against the plain layers."""

import copy
import ctypes
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

from photophone.kernels import few_rows, native
from photophone.kernels.few_rows import WEIGHTS, FewRowsWeight, linear_reference, round_weight, scaled
from photophone.layers.decode_linear import DecodeLinear, prepare_for_decoding, restore_linears
from photophone.layers.llama_block import LlamaBlock, LlamaStack
from photophone.layers.rotary import sequence_rotary
from photophone.layers.transformer import LayerCache, StaticLayerCache

SHAPES = [(768, 2048), (13, 7), (1, 1), (31, 33), (8, 4), (2048, 96)]
compiled = pytest.mark.skipif(few_rows.library()[0] is None, reason="no C++ compiler")


def exact(x, weight, scale, bias):
    weight = weight.double() if scale is None else scaled(weight, scale, torch.float64)
    return x.double() @ weight.T + (0 if bias is None else bias.double())


@pytest.fixture(params=["compiled", "reference"])
def code(request, monkeypatch):
    """Both ways: the C++ code, and a machine without a compiler."""
    if request.param == "reference":
        monkeypatch.setattr("photophone.layers.decode_linear.library", lambda: (None, "switched off"))
    elif few_rows.library()[0] is None:
        pytest.skip("no C++ compiler")
    return request.param


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
def test_rows_equal_the_product_of_the_rounded_weights(code, kind, shape, bias):
    torch.manual_seed(0)
    linear = nn.Linear(*shape, bias=bias)
    (layer,) = prepare_for_decoding(nn.Sequential(linear), kind, smallest=0)
    assert (layer.packed is not None) == (code == "compiled")
    for rows in (1, 2, 3, 4, 5, 7, 8, 16, few_rows.MAX_ROWS, few_rows.MAX_ROWS + 1):
        x = torch.randn(rows, 1, shape[0])
        with torch.no_grad():
            made = layer(x)
        truth = exact(x, *round_weight(linear.weight.detach(), kind), linear.bias)
        assert made.shape == truth.shape
        torch.testing.assert_close(made.double(), truth, atol=2e-6 * shape[0] ** 0.5, rtol=1e-5)


@compiled
@pytest.mark.parametrize("kind", WEIGHTS)
def test_a_row_is_the_same_to_the_last_bit_beside_other_rows(kind):
    torch.manual_seed(0)
    packed = FewRowsWeight(torch.randn(37, 45), kind)
    x = torch.randn(17, 45)
    together = packed(x)
    assert torch.equal(together, torch.cat([packed(row[None]) for row in x]))
    assert torch.equal(together[3:8], packed(x[3:8]))


@compiled
def test_every_output_is_written_and_padding_is_not_read():
    packed = FewRowsWeight(torch.ones(5, 9), "float32")
    memory = torch.full((3, 9 + 4), float("nan"))
    x = memory[:, :9].fill_(2.0)
    assert torch.equal(packed(x), torch.full((3, 5), 18.0))
    assert torch.equal(packed.unpacked(), torch.ones(5, 9))


@compiled
@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("shape", [*SHAPES, (257, 6), (300, 9)])
def test_packed_weights_are_the_rounded_ones(kind, shape):
    weight = torch.randn(shape[1], shape[0], generator=torch.Generator().manual_seed(0))
    values, scale = round_weight(weight, kind)
    wanted = values.float() if scale is None else scaled(values, scale)
    packed = FewRowsWeight(weight, kind)
    assert torch.equal(packed.unpacked(), wanted)
    assert torch.equal(copy.deepcopy(packed).unpacked(), wanted)


def test_rounding_to_four_bits_keeps_what_it_promises():
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(256, 300, generator=generator) * torch.logspace(-3, 3, 256)[:, None]
    weight[5] = 0
    weight[6, 32:64] = 0
    weight[7] = weight[7].abs()
    values, scale = round_weight(weight, "int4")
    assert values.shape == weight.shape and scale.shape == (256, 10) and values.abs().max() <= 8
    error = scaled(values, scale) - weight
    assert (error[5] == 0).all() and (error[6, 32:64] == 0).all()
    groups = nn.functional.pad(weight, (0, 20)).unflatten(1, (10, 32))
    errors = nn.functional.pad(error, (0, 20)).unflatten(1, (10, 32))
    assert (errors.square().mean(2).sqrt() <= groups.abs().amax(2) / 13).all()
    normal = torch.randn(64, 4096, generator=generator)
    assert (scaled(*round_weight(normal, "int4")) - normal).square().mean().sqrt() < 0.09


@pytest.fixture(scope="module", params=["x86-64-v3", "x86-64-v4"])
def level(request, tmp_path_factory):
    """The code for a level of x86-64 that the processor has."""
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    needed = {"x86-64-v3": ["avx2", "fma"], "x86-64-v4": ["avx512f", "avx512dq", "avx512vl", "avx512bw"]}[request.param]
    if few_rows.library()[0] is None or not set(needed) <= set(flags):
        pytest.skip(f"no compiler, or a processor without {request.param}")
    source, made = Path(native.__file__).with_name("decode.cpp"), tmp_path_factory.mktemp("level") / "decode.so"
    subprocess.run([native.compiler(), *native.FLAGS, f"-march={request.param}", "-shared", str(source), "-o",
                    str(made)], check=True)
    return few_rows.declare(ctypes.CDLL(str(made)))


@torch.no_grad()
@pytest.mark.parametrize("kind", WEIGHTS)
def test_every_level_of_the_processor_equals_the_reference(level, kind, monkeypatch):
    for module in ("photophone.kernels.few_rows", "photophone.kernels.decode_block", "photophone.layers.decode_linear"):
        monkeypatch.setattr(f"{module}.library", lambda: (level, ""))
    generator = torch.Generator().manual_seed(0)
    for channels, outputs in [*SHAPES, (257, 6), (520, 41)]:
        weight = torch.randn(outputs, channels, generator=generator) / channels**0.5
        packed, rounded = FewRowsWeight(weight, kind), round_weight(weight, kind)
        for rows in (1, 2, 7, 19):
            x = torch.randn(rows, channels, generator=generator)
            torch.testing.assert_close(packed(x).double(), exact(x, *rounded, None), atol=5e-6, rtol=1e-5)
    plain = make_block()
    rounded = copy.deepcopy(plain)
    for linear in rounded.modules():
        if isinstance(linear, nn.Linear):
            values, scale = round_weight(linear.weight, kind)
            linear.weight.copy_(values if scale is None else scaled(values, scale))
    block, x, table = prepare_for_decoding(plain, kind, smallest=0), torch.randn(2, 3, 64), sequence_rotary(8, 16)
    made = block(x, None, table[:3], LayerCache(2, 4, 8, 16))
    wanted = rounded(x, None, table[:3], LayerCache(2, 4, 8, 16))
    torch.testing.assert_close(made, wanted, atol=1e-5, rtol=1e-5)


@compiled
@torch.no_grad()
def test_a_stack_in_one_call_equals_its_blocks_and_norm():
    torch.manual_seed(0)
    stack = LlamaStack(64, 4, 96, 3).eval()
    nn.init.uniform_(stack.norm.weight, 0.5, 1.5)
    x, table = torch.randn(2, 2, 64), sequence_rotary(8, 16)

    def run(model, dtype):
        caches = [LayerCache(2, 4, 8, 16, dtype=dtype) for _ in range(3)]
        return model(x.to(dtype), None, table[:2].to(dtype), caches), [cache.length for cache in caches]

    wanted, _ = run(copy.deepcopy(stack).double(), torch.float64)
    made, lengths = run(prepare_for_decoding(stack, "float32", smallest=0), torch.float32)
    assert lengths == [2, 2, 2]
    torch.testing.assert_close(made.double(), wanted, atol=5e-6, rtol=1e-5)
    uneven = [LayerCache(2, 4, length, 16) for length in (8, 4, 8)]  # no single call, the same result
    torch.testing.assert_close(stack(x, None, table[:2], uneven), made)


@pytest.mark.parametrize("kind", ["bfloat16", "int8"])
def test_rounding_keeps_what_it_promises(kind):
    weight = torch.randn(64, 300, generator=torch.Generator().manual_seed(1)) * torch.logspace(-3, 3, 64)[:, None]
    weight[5] = 0
    values, scale = round_weight(weight, kind)
    error = (values.float() * (1 if scale is None else scale[:, None]) - weight).abs()
    bound = weight.abs() * 2**-8 if kind == "bfloat16" else weight.abs().amax(1, keepdim=True) / 254 * (1 + 1e-5)
    assert (error <= bound).all()


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="float32, bfloat16, int8, int4, got 'int3'"):
        prepare_for_decoding(nn.Linear(2, 2), "int3", smallest=0)


def test_small_layers_stay_as_they_are():
    model = prepare_for_decoding(nn.Sequential(nn.Linear(512, 512), nn.Linear(512, 511)))
    assert [type(layer) for layer in model] == [DecodeLinear, nn.Linear]


@pytest.mark.parametrize("kind", WEIGHTS)
def test_the_saved_state_gradients_and_undoing(code, kind):
    torch.manual_seed(0)
    shared = nn.Linear(8, 8)
    model = nn.Sequential(shared, nn.ModuleDict({"again": shared}), nn.Embedding(3, 4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    prepare_for_decoding(model, kind, smallest=0)
    assert type(model[0]) is DecodeLinear and model[0] is model[1]["again"]
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    x = torch.randn(2, 8)
    model[0](x).sum().backward()
    torch.testing.assert_close(shared.weight.grad, x.sum(0).expand(8, -1))
    restore_linears(model)
    assert type(model[0]) is nn.Linear and model[0].weight is shared.weight and model[1]["again"] is model[0]
    assert torch.equal(model[0](x), shared(x))


@torch.no_grad()
def test_loaded_cast_and_copied_weights_are_used(code):
    torch.manual_seed(0)
    model, other, x = nn.Sequential(nn.Linear(16, 8)), nn.Sequential(nn.Linear(16, 8)), torch.randn(2, 16)
    prepare_for_decoding(model, "int8", smallest=0)
    model.load_state_dict(other.state_dict())
    wanted = prepare_for_decoding(copy.deepcopy(other), "int8", smallest=0)(x)
    assert torch.equal(model(x), wanted)
    assert torch.equal(copy.deepcopy(model)(x), wanted)
    tolerance = 0 if code == "compiled" else 1e-5  # the reference multiplies in double, the C++ code in float
    torch.testing.assert_close(model.double()(x.double()).float(), wanted, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(model(x.double()).float(), wanted)


def test_the_reference_multiplies_from_either_side():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 3, 8), torch.randn(5, 8), torch.randn(5)
    torch.testing.assert_close(linear_reference(x, weight, None, bias), nn.functional.linear(x, weight, bias))


def make_block(**options):
    torch.manual_seed(0)
    block = LlamaBlock(64, 4, 96, **options).eval()
    for norm in (block.norm1, block.norm2):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    return block


BLOCKS = [{}, {"num_kv_heads": 2, "rotary_halves": True}, {"head_dim": 32, "residual_scale": 0.5, "num_kv_heads": 1}]


@compiled
@torch.no_grad()
@pytest.mark.parametrize("options", BLOCKS)
@pytest.mark.parametrize("static", [False, True])
def test_a_compiled_block_equals_the_plain_one_in_float64(options, static):
    plain = make_block(**options)
    block = prepare_for_decoding(copy.deepcopy(plain), "float32", smallest=0)
    truth = copy.deepcopy(plain).double()
    kv, dim, rows, length = plain.attention.num_kv_heads, plain.attention.head_dim, 3, 11
    kind = StaticLayerCache if static else LayerCache
    ours, theirs = kind(rows, kv, length, dim), kind(rows, kv, length, dim, dtype=torch.float64)
    table, keys = sequence_rotary(length, dim), torch.arange(length)
    start = torch.tensor([0, 0, 0])
    for step, count in enumerate((4, 1, 2, 1)):
        x = torch.randn(rows, count, 64)
        if static:  # rows drift apart
            start = start + step * torch.tensor([0, 1, 0]) + (count if step else 0) * torch.tensor([1, 0, 0])
            ours.positions = theirs.positions = start
            places = start[:, None] + torch.arange(count)
            rotary, mask = table[places][:, None], (keys <= places[..., None])[:, None]
        else:
            places = ours.length + torch.arange(count)
            rotary, mask = table[places], (keys <= places[:, None])[:, :ours.length + count]
            mask = mask & (keys[:mask.shape[1]] != 2)  # a place that nobody sees
        assert block.compiled().fits(x, mask, ours.buffer)
        made = block(x, mask, rotary, ours)
        wanted = truth(x.double(), mask, rotary.double(), theirs)
        torch.testing.assert_close(made.double(), wanted, atol=5e-6, rtol=1e-5)
        torch.testing.assert_close(ours.buffer.double(), theirs.buffer, atol=5e-6, rtol=1e-5)


@compiled
@torch.no_grad()
def test_a_compiled_block_takes_new_weights_and_refuses_places_outside():
    block = prepare_for_decoding(make_block(), "float32", smallest=0)
    cache, x, table = LayerCache(1, 4, 4, 16), torch.randn(1, 1, 64), sequence_rotary(4, 16)
    first = block(x, None, table[:1], cache)
    state = {name: value + 0.5 for name, value in block.state_dict().items()}
    block.load_state_dict(state)
    other = LlamaBlock(64, 4, 96).eval()
    other.load_state_dict(state)
    made = block(x, None, table[:1], LayerCache(1, 4, 4, 16))
    torch.testing.assert_close(made, other(x, None, table[:1], LayerCache(1, 4, 4, 16)))
    assert not torch.allclose(made, first)
    static = StaticLayerCache(1, 4, 4, 16)
    static.positions = torch.tensor([4])
    with pytest.raises(ValueError, match=r"1 tokens from place \[4\] on do not fit the 4 places"):
        block(x, None, table[:1], static)


def test_without_a_compiler_or_with_a_broken_one_there_is_no_code(monkeypatch, tmp_path):
    monkeypatch.setattr(native, "compiler", lambda: None)
    assert native.load.__wrapped__("decode") == (None, "no C++ compiler")
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho nothing here works >&2; exit 1\n")
    broken.chmod(0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(native, "compiler", lambda: str(broken))
    code, reason = native.load.__wrapped__("decode")
    assert code is None and "nothing here works" in reason


def test_code_is_not_loaded_from_a_folder_that_others_may_write(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = native.library_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    with pytest.raises(PermissionError, match="can be written by others"):
        native.library_folder()
