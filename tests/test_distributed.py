"""Two processes that share each batch learn what one process learns."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn

from diga_lib.data import LabelledImages
from diga_lib.methods import ERM, GroupDRO
from diga_lib.methods.networks import classifier
from diga_lib.studies.distributed import spread

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """
import sys
import torch
sys.path.insert(0, {root!r})
sys.path.insert(0, {here!r})
torch.set_num_threads(1)
from accelerate import Accelerator
from safetensors.torch import save_file
from test_distributed import METHODS, gradients, train_set
from diga_lib.studies.distributed import share_batch_statistics, spread
accelerator = Accelerator(cpu=True)
rank = accelerator.process_index
def prepared(network):
    share_batch_statistics(network)
    return accelerator.prepare(network)
save_file(gradients(prepared, slice(rank, None, 2)), {folder!r} + f"/gradients-{{rank}}.safetensors")
for name, make in METHODS.items():
    method = spread(make(), accelerator).fit(train_set(), seed=3)
    state = {{key: value.contiguous().clone() for key, value in method.network.state_dict().items()}}
    state["losses"] = torch.tensor([record["loss"] for record in method.history])
    save_file(state, {folder!r} + f"/{{name}}-{{accelerator.process_index}}.safetensors")
if accelerator.num_processes > 1:
    torch.distributed.destroy_process_group()
"""
SETTINGS = {"epochs": 2, "batch_size": 16, "augment": "none", "precision": "fp32", "device": "cpu", "lr": 1e-3}
METHODS = {"erm": lambda: ERM(**SETTINGS), "light": lambda: ERM(**SETTINGS | {"augment": "light"})}


def train_set(n=72):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n)
    x = rng.integers(0, 120, (n, 3, 32, 32), dtype=np.uint8)
    x[y == 1, :, :12] += 100
    return LabelledImages(x, y, y.copy(), np.arange(n))


def gradients(prepare, share=slice(None)):
    """Gradients and running statistics after one batch, of which this process looks at its share."""
    torch.manual_seed(0)
    network = classifier()
    prepared = prepare(network)
    train = train_set(24)
    x, y = torch.from_numpy(train.images).float()[share] / 255, torch.from_numpy(train.target)[share]
    nn.functional.cross_entropy(prepared(x), y).backward()
    state = {f"gradient.{name}": value.grad for name, value in network.named_parameters()}
    state |= dict(network.named_buffers())
    return {name.replace(".norm.", "."): value.contiguous().clone() for name, value in state.items()}


def state_of(method):
    return {name.replace(".norm.", "."): value for name, value in method.network.state_dict().items()}


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What each of two processes ended with, started by torchrun with the gloo backend."""
    folder = tmp_path_factory.mktemp("spread")
    (folder / "run.py").write_text(SCRIPT.format(root=str(ROOT), here=str(Path(__file__).parent), folder=str(folder)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*command, str(folder / "run.py")], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    names = (*METHODS, "gradients")
    return {name: [load_file(folder / f"{name}-{rank}.safetensors") for rank in (0, 1)] for name in names}


def test_gradients_and_statistics_are_those_of_the_whole_batch(two_processes):
    whole, alone = gradients(lambda network: network), gradients(lambda network: network, slice(0, None, 2))
    for shared in two_processes["gradients"]:
        assert shared.keys() == whole.keys()
        for name, value in whole.items():
            if value.is_floating_point():
                scale = value.abs().max() + 1e-3
                assert (shared[name] - value).abs().max() < 1e-3 * scale, name
    # The test can fail: a process that knows its own share only is far off.
    assert max(float((alone[name] - value).abs().max()) for name, value in whole.items()) > 0.01


def distance(one, other):
    """Between the weights of two networks."""
    names = [name for name, value in one.items() if value.is_floating_point() and "running" not in name]
    return float(sum((one[name].float() - other[name].float()).square().sum() for name in names) ** 0.5)


def test_both_processes_end_with_the_same_network(two_processes):
    for one, other in two_processes.values():
        assert all(torch.equal(one[name], other[name]) for name in one if name != "losses")


def test_two_processes_end_where_one_does(two_processes):
    alone = METHODS["erm"]().fit(train_set(), seed=3)
    together = {name.replace(".norm.", "."): value for name, value in two_processes["erm"][0].items()}
    assert together.keys() - {"losses"} == state_of(alone).keys()

    class Reordered(ERM):
        """The same batches with their images in another order: nothing changes but the rounding of sums."""

        def sampler(self, train, generator):
            order = super().sampler(train, generator)
            batches = order[: len(order) // 16 * 16].view(-1, 16)
            return torch.cat([batches[:, 0::2], batches[:, 1::2]], 1).flatten()

    # Adam divides by the gradient's size: where a gradient is nearly zero, rounding decides its sign. So two
    # processes are asked to be as near to one as one is to itself with its sums in another order.
    rounding = distance(state_of(alone), state_of(Reordered(**SETTINGS).fit(train_set(), seed=3)))
    other_seed = distance(state_of(alone), state_of(METHODS["erm"]().fit(train_set(), seed=4)))
    assert distance(state_of(alone), together) < 2 * rounding + 0.01 * other_seed
    assert rounding < 0.2 * other_seed, "the yardstick itself says nothing"
    losses = np.mean([state["losses"].numpy() for state in two_processes["erm"]], axis=0)
    np.testing.assert_allclose(losses, [record["loss"] for record in alone.history], rtol=0.05)


def test_augmentation_is_drawn_by_each_process_for_its_share(two_processes):
    one, other = two_processes["light"]
    assert not torch.equal(one["losses"], other["losses"])
    assert torch.isfinite(one["losses"]).all() and one["losses"][1] < one["losses"][0]


def test_one_process_alone_is_the_method_itself():
    plain = METHODS["light"]().fit(train_set(), seed=3)
    method = spread(METHODS["light"](), Accelerator(cpu=True)).fit(train_set(), seed=3)
    assert isinstance(method, ERM)
    for name, value in plain.network.state_dict().items():
        torch.testing.assert_close(method.network.state_dict()[name], value)


def test_what_cannot_be_shared_is_refused():
    class Two:
        num_processes = 2

    class Own(ERM):
        def fit(self, train):
            return self

    with pytest.raises(ValueError, match="batch_size is 15: valid is a multiple of the 2 processes"):
        spread(ERM(batch_size=15), Two())
    with pytest.raises(ValueError, match="Own has a training loop of its own"):
        spread(Own(), Two())
    with pytest.raises(ValueError, match="has 72 images: valid is at least one batch of 128"):
        spread(ERM(), Accelerator(cpu=True)).fit(train_set())


def test_oracles_can_be_spread_too():
    method = spread(GroupDRO(**SETTINGS), Accelerator(cpu=True)).fit(train_set(), seed=0)
    assert not any(isinstance(module, nn.parallel.DistributedDataParallel) for module in method.network.modules())
