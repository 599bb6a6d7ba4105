"""Puts tests/ on the path, so that all tests can import :mod:`tiny`."""

import torch

torch.set_num_threads(min(2, torch.get_num_threads()))
