"""Moving averages over two processes equal one process with the whole batch."""

from datetime import timedelta

import torch
import torch.distributed as dist
from torch import multiprocessing

from photophone.core.noise import ReplayNoise
from photophone.quantizers import VectorQuantizer

STEPS = 2


def train(batches, priorities):
    torch.manual_seed(0)
    quantizer = VectorQuantizer(3, 6, ema_decay=0.9, revive_below=1.0, kmeans_iterations=2)
    for batch, priority in zip(batches, priorities):
        quantizer(batch, noise=ReplayNoise(uniform=[priority]))
    return quantizer.state_dict()


def data():
    generator = torch.Generator().manual_seed(1)
    batches = torch.randn(STEPS, 4, 8, 3, generator=generator)
    priorities = torch.rand(STEPS, 4, 8, generator=generator)
    priorities[:, 2:] += 1  # rows are picked on process 0, which holds the first half
    return batches, priorities


def worker(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2,
                            timeout=timedelta(seconds=60))
    batches, priorities = data()
    half = slice(2 * rank, 2 * rank + 2)
    torch.save(train(batches[:, half], priorities[:, half]), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    other = multiprocessing.get_context("spawn").Process(target=worker, args=(1, str(tmp_path)))
    other.start()
    worker(0, str(tmp_path))  # this process is the first: one start less to wait for
    other.join(60)
    assert other.exitcode == 0
    whole = train(*data())
    for rank in range(2):
        state = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for key, value in whole.items():
            torch.testing.assert_close(state[key], value, msg=f"{key} of process {rank}")
