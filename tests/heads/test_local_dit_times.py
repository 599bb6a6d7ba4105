"""What a local DiT keeps of the times of its solver: the same numbers, and nothing kept after it is done."""

import torch

from photophone.core.noise import SeededNoise
from photophone.heads import build_head


def make_head(shared):
    torch.manual_seed(0)
    head = build_head("local_dit", in_dim=12, token_dim=5, width=24, depth=2, num_heads=2, cell_size=4, repeats=2,
                      shared_adaln=shared)
    for weight in head.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    return head


def test_samples_are_bit_equal_and_times_are_forgotten():
    for shared in (True, False):
        head, hidden = make_head(shared), torch.randn(4, 8, 12)

        def sample(seed, head=head, hidden=hidden):
            return head.sample(hidden, guidance=2.0, noise=SeededNoise.from_seeds([seed, seed + 1], "cpu"),
                               num_steps=3)

        plain = [sample(seed) for seed in (1, 2)]
        with head.remember_times():
            assert torch.equal(sample(1), plain[0])
            with head.remember_times():
                assert all(torch.equal(sample(seed), made) for seed, made in zip((1, 2), plain))
                assert [len(memory) for memory in head.net._memories] == [3, 3]
            assert torch.equal(sample(1), plain[0])
        assert not head.net._memories
        head.net.time_embed.mlp[0].weight.data *= 2
        assert not torch.equal(sample(1), plain[0])
