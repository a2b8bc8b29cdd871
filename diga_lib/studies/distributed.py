"""One training run spread over several processes or accelerators: same batches, same result.

``torchrun --nproc-per-node 2 -m diga_lib.studies.distributed`` trains one row of the fair-training table so; without `torchrun`
it is one process. Every process visits its share of each batch, gradients are averaged (accelerate), and batch
normalisation takes its statistics from the whole batch, so the size of the batch, and what is learned, stay what they
are with one process.
"""

from __future__ import annotations

import argparse
import os

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import nn
from torch.distributed.nn.functional import all_reduce

from diga_lib import runtime
from diga_lib.methods import ERM


def spread(method: ERM, accelerator: Accelerator) -> ERM:
    """Let a method's `fit` share its work with the other processes.

    Parameters
    ----------
    method : ERM
        An untrained method whose training is the loop of `ERM.fit`. All processes must make the same one and call
        `fit` with the same arguments.
    accelerator : accelerate.Accelerator
        Knows the other processes.

    Returns
    -------
    ERM
        The same object. After `fit` every process has the same network.

    Raises
    ------
    ValueError
        If the method has a loop of its own, or its batches cannot be shared evenly.

    Notes
    -----
    Image augmentation is drawn by each process for its own share, so that with it the result is the same in
    distribution, and without it the same but for rounding.
    """
    cls, count = type(method), accelerator.num_processes
    if cls.fit is not ERM.fit:
        raise ValueError(f"{cls.__name__} has a training loop of its own: valid are methods that train by ERM's.")
    if method.settings.batch_size % count:
        raise ValueError(f"batch_size is {method.settings.batch_size}: valid is a multiple of the {count} processes.")
    method.accelerator, method.batch_of_all = accelerator, method.settings.batch_size
    method.settings = type(method.settings)(**{**vars(method.settings), "batch_size": method.batch_of_all // count})
    method.__class__ = type(f"Spread{cls.__name__}", (_Spread, cls), {})
    return method


class _Spread:
    """The steps of a method that are different where it is one of several processes."""

    @property
    def device(self):
        return self.accelerator.device

    def fit(self, train, *args, **kwargs):
        if len(train) < self.batch_of_all:
            raise ValueError(
                f"The training set has {len(train)} images: valid is at least one batch of {self.batch_of_all}."
            )
        super().fit(train, *args, **kwargs)
        self.network = self.accelerator.unwrap_model(self.network)
        return self

    def prepare(self, train):
        rank, count = self.accelerator.process_index, self.accelerator.num_processes
        self.generator.manual_seed(self.generator.initial_seed() * count + rank)  # augmentation of its own share
        super().prepare(train)
        if count > 1:
            share_batch_statistics(self.network)
        self.network = self.accelerator.prepare(self.network)

    def sampler(self, train, generator):
        order, batch = super().sampler(train, generator), self.batch_of_all
        batches = order[: len(order) // batch * batch].view(-1, batch)
        return batches[:, self.accelerator.process_index :: self.accelerator.num_processes].flatten()

    def optimizer(self, steps, parameters=None):
        # The loop counts in batches of this process's share, of which one process would make more.
        return super().optimizer(steps // self.accelerator.num_processes, parameters)


class SharedBatchNorm(nn.Module):
    """Batch normalisation over the batch of all processes, on any device (torch's own needs CUDA)."""

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d):
        super().__init__()
        self.norm = norm

    def forward(self, x):
        if not self.training:
            return self.norm(x)
        norm, axes = self.norm, [axis for axis in range(x.ndim) if axis != 1]
        value, shape = x.float(), [1, -1] + [1] * (x.ndim - 2)
        count = x.numel() // x.shape[1] * dist.get_world_size()
        sums = all_reduce(torch.stack([value.sum(axes), value.square().sum(axes)]))
        mean = sums[0] / count
        variance = (sums[1] / count - mean.square()).clamp(min=0)
        with torch.no_grad():
            norm.num_batches_tracked += 1
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
        scale = norm.weight * (variance + norm.eps).rsqrt()
        return (value * scale.view(shape) + (norm.bias - mean * scale).view(shape)).to(x.dtype)


def share_batch_statistics(network: nn.Module) -> None:
    """Replace the batch normalisation of a network by one that looks at all processes' images."""
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            setattr(network, name, SharedBatchNorm(child))
        else:
            share_batch_statistics(child)


def main() -> None:
    from diga_lib.metrics import group_metrics
    from diga_lib.pages.profiles import SIZES
    from diga_lib.studies.rows import ROWS
    from diga_lib.studies.setting import setting

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--row", default="diga-one-stage", choices=tuple(ROWS), help="of the fair-training table")
    parser.add_argument("--profile", default="quick", choices=tuple(SIZES))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    accelerator = Accelerator(cpu=runtime.device().type == "cpu")
    runtime.set_threads(max(1, runtime.available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    made, row = setting(profile=given.profile), ROWS[given.row]
    with accelerator.main_process_first():  # what is kept on disk is made once
        method = spread(row.make(made), accelerator)
    train = made.split.train if row.oracle else made.train
    method.fit(train, seed=given.seed)
    if accelerator.is_main_process:
        test = made.split.test
        print(
            f"{given.row}, {accelerator.num_processes} processes on {accelerator.device}:",
            group_metrics(test.target, method.predict(test.images), test.spurious),
        )
    if accelerator.num_processes > 1:
        accelerator.end_training()
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
