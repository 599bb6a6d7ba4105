"""The rule that chooses between kernel, processor path and reference; and models that run on interpreted kernels."""

import subprocess
import sys

import pytest
import torch

from photophone.core.noise import SeededNoise
from photophone.heads.categorical import CategoricalHead
from photophone.heads.diffusion import DiffusionHead
from photophone.heads.flow import FlowHead
from photophone.kernels import dispatch
from photophone.layers.adaln_block import AdaLNBlock
from photophone.layers.istft import ISTFT
from photophone.layers.llama_block import LlamaStack
from photophone.layers.rotary import sequence_rotary
from photophone.layers.self_attention import SelfAttention
from photophone.layers.transformer import FeedForward, LayerCache
from photophone.quantizers import FSQ, LFQ, MultiCodebookVQ, ResidualVQ, VectorQuantizer


def test_modes():
    assert dispatch.read_mode(None) == dispatch.read_mode("") == "auto"
    assert dispatch.read_mode("reference") == "reference"
    with pytest.raises(ValueError, match="auto, reference, triton, got 'fast'"):
        dispatch.read_mode("fast")
    code = "from photophone.kernels import dispatch; print(dispatch.MODE)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={"PHOTOPHONE_KERNELS": "reference", "PATH": "", "PYTHONPATH": ":".join(sys.path)})
    assert done.stdout.strip() == "reference"


def test_tensors_of_the_processor(monkeypatch):
    x = torch.zeros(2)
    monkeypatch.setattr(dispatch, "CPU_PATHS", {})
    assert dispatch.choose("vq", x) == "reference"
    monkeypatch.setitem(dispatch.CPU_PATHS, "vq", "tiles")
    assert dispatch.choose("vq", x) == "cpu" and dispatch.choose("pack", x) == "reference"
    assert "cpu: tiles" in dispatch.report()["vq"]
    monkeypatch.setattr(dispatch, "MODE", "reference")
    assert dispatch.choose("vq", x) == "reference" and "PHOTOPHONE_KERNELS" in dispatch.report()["vq"]
    with pytest.raises(ValueError, match="operation"):
        dispatch.choose("other", x)


def test_what_triton_takes(monkeypatch):
    monkeypatch.setattr(dispatch, "MODE", "triton")
    x, learned = torch.zeros(2), torch.zeros(2, requires_grad=True)
    assert dispatch.choose("vq", x, None) == "triton"
    assert dispatch.choose("vq", x.double()) == "reference"
    assert dispatch.choose("vq", x.long()) == "triton"  # integers ride along
    assert dispatch.choose("vq", x[:0]) == "reference"
    assert dispatch.choose("vq", x, torch.zeros(2, device="meta")) == "reference"
    assert dispatch.choose("vq", learned) == "reference" and dispatch.choose("vq", learned, backward=True) == "triton"
    with torch.no_grad():
        assert dispatch.choose("vq", learned) == "triton"
    monkeypatch.delenv("TRITON_INTERPRET")
    assert dispatch.choose("vq", x) == "reference"


def test_triton_is_imported_only_when_it_is_used():
    code = ("import sys, photophone.layers.adaln, photophone.heads.flow, photophone.quantizers\n"
            "assert not [name for name in sys.modules if name.startswith('photophone.kernels.fused.')]\n")
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": "", "PYTHONPATH": ":".join(sys.path)})


def both(monkeypatch, fused, function):
    """Results of ``function()`` by the reference and by interpreted kernels, with the same seed."""
    results = []
    for run in (lambda f: f(), fused):
        torch.manual_seed(5)
        results.append(run(function))
    return results


def noise(rows):
    return SeededNoise.from_seeds(range(rows))


def test_heads_sample_alike(monkeypatch, fused):
    hidden = torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(1))
    heads = [(CategoricalHead(8, 40), {"top_k": 9, "top_p": 0.9, "guidance": 1.5}),
             (FlowHead(8, 4, 16, 1), {"num_steps": 3, "guidance": torch.tensor([1.5, 2.0])}),
             (FlowHead(8, 4, 16, 1, path="cosine"), {"num_steps": 3, "solver": "sde", "temperature": 0.9}),
             (DiffusionHead(8, 4, 16, 1, respacing="3"), {"guidance": 1.5, "temperature": 0.8})]
    for head, options in heads:
        for parameter in head.parameters():  # final layers start as zeros
            torch.nn.init.normal_(parameter, std=0.3)
        rows = 2 if "guidance" in options else 4
        a, b = both(monkeypatch, fused, lambda h=head, o=options, r=rows: h.sample(hidden, noise=noise(r), **o))
        assert torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-4), (type(head).__name__, a - b)


def test_blocks_compute_and_learn_alike(monkeypatch, fused):
    x = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(2))
    blocks = [AdaLNBlock(SelfAttention(8, 2), FeedForward(8), 8, rms=rms) for rms in (False, True)]
    stack, rotary = LlamaStack(8, 2, 16, 1, num_kv_heads=1, rotary_halves=True), sequence_rotary(3, 4)
    for module in (*blocks, stack):
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.4)

        def step(module=module):
            out = module(x, rotary=rotary) if module is stack else module(x, x[:, :1])
            grads = torch.autograd.grad(out.sin().sum(), list(module.parameters()), allow_unused=True)
            return [out.detach(), *(grad for grad in grads if grad is not None)]
        for a, b in zip(*both(monkeypatch, fused, step)):
            assert (a - b).abs().max() <= 1e-5 * max(1.0, float(b.abs().max()))


@torch.no_grad()
def test_a_decode_step_fills_the_cache_alike(monkeypatch, fused):
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(3))
    stack, rotary = LlamaStack(8, 2, 16, 1, num_kv_heads=1), sequence_rotary(5, 4)

    def decode():
        cache = LayerCache(2, 1, 5, 4)
        outs = [stack(x[:, i:i + 1], rotary=rotary[i:i + 1], caches=[cache]) for i in range(5)]
        return torch.cat(outs, dim=1), cache.buffer
    (a, cache_a), (b, cache_b) = both(monkeypatch, fused, decode)
    assert torch.allclose(a, b, atol=1e-5) and torch.allclose(cache_a, cache_b, atol=1e-5)
    whole = stack(x, mask=torch.ones(5, 5, dtype=torch.bool).tril(), rotary=rotary)
    assert torch.allclose(b, whole, atol=1e-5)


def test_quantizers_agree(monkeypatch, fused):
    x = torch.randn(2, 9, 6, generator=torch.Generator().manual_seed(4))
    mask = torch.arange(9) < torch.tensor([[9], [5]])
    for make in (lambda: VectorQuantizer(6, 12, ema_decay=0.9, revive_below=0.0), lambda: ResidualVQ(6, 12, 3),
                 lambda: MultiCodebookVQ(6, 12, 2, l2_norm=True), lambda: FSQ([5, 4, 3], 6), lambda: LFQ(6, 2)):
        torch.manual_seed(6)
        start = make()
        states = []
        for run in (lambda f: f(), fused):
            torch.manual_seed(6)
            quantizer = make()
            quantizer.load_state_dict(start.state_dict())

            def use(q=quantizer):
                if isinstance(q, VectorQuantizer):  # training moves its codes by the kernel's counts and sums
                    q.train()(x, mask)
                with torch.no_grad():
                    return q.eval()(x).indices, q.encode(x)
            first, second = run(use)
            assert torch.equal(first, second)
            states.append([second, *quantizer.state_dict().values()])
        for a, b in zip(*states):
            assert torch.allclose(a.double(), b.double(), atol=1e-5), type(start).__name__


def test_synthesis_agrees(monkeypatch, fused):
    spectrum = torch.randn(2, 9, 6, dtype=torch.complex64, generator=torch.Generator().manual_seed(7))
    mask = torch.arange(6) < torch.tensor([[6], [4]])
    for padding in ("center", "same", "start"):
        layer = ISTFT(16, 4, padding)
        for given in (None, mask):
            a, b = both(monkeypatch, fused, lambda la=layer, g=given: la(spectrum, g))
            assert torch.allclose(a, b, atol=1e-5), padding
