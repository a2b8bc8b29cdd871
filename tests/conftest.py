"""What all tests share: one thread."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Arrays this small gain nothing from a second thread, and lose much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
