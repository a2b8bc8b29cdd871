"""Any generator plugs in: what the library asks of one, a check to run on yours, and two that are not ours.

The library calls ``encode`` and ``decode`` and reads ``resolution``, nothing else. :class:`Generator` describes them,
:func:`check_generator` tries them. :class:`PCAGenerator` is the simplest generator there is; :class:`PairGenerator`
wraps two exported networks, ONNX or TorchScript.

What is trusted: an ONNX file is a graph of known operations that onnxruntime computes; it runs no code of its author.
A TorchScript file can hold any operation that torch has, also such as read and write files, so it is loaded only with
``trust=True`` and the SHA-256 of the files you mean. Neither is unpickled by us; weights are tensors.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from diga_lib import runtime
from diga_lib.latent.autoencoder import to_float
from diga_lib.latent.protocol import ConformanceError, WPlusGenerator, check_generator

__all__ = ["ConformanceError", "PCAGenerator", "PairGenerator", "WPlusGenerator", "check_generator", "export_onnx"]


class PCAGenerator:
    """Principal components as a generator: the simplest example of one, made in seconds.

    Codes are the components' coordinates in standard deviations, the first level those that vary most.

    Parameters
    ----------
    levels, width : int
        Shape of a code; levels x width components.
    seed : int
        Of the randomised decomposition.
    """

    def __init__(self, levels: int = 4, width: int = 32, seed: int = 0):
        self.levels, self.width, self.seed = levels, width, seed

    def fit(self, images: np.ndarray) -> PCAGenerator:
        """Find the components of images, uint8 (N, 3, R, R), of which there must be more than components."""
        count = self.levels * self.width
        if len(images) <= count:
            raise ValueError(
                f"{len(images)} images do not have {self.levels} x {self.width} components: valid are "
                f"more than {count} images, or fewer levels or a smaller width."
            )
        self.resolution = images.shape[2]
        self.pca = PCA(count, whiten=True, svd_solver="randomized", random_state=self.seed)
        self.pca.fit(_rows(images))
        return self

    def encode(self, images, batch_size: int = 256) -> Tensor:
        """Codes (N, levels, width) of images (N, 3, R, R)."""
        self._check(images)
        if not len(images):
            return torch.empty(0, self.levels, self.width)
        codes = self.pca.transform(_rows(images))
        return torch.from_numpy(codes.astype(np.float32)).view(-1, self.levels, self.width)

    def decode(self, codes: Tensor, batch_size: int = 256) -> Tensor:
        """Images (N, 3, R, R), float32 in [0, 1], of codes (N, levels, width)."""
        flat = self.pca.inverse_transform(codes.detach().cpu().flatten(1).numpy()).astype(np.float32)
        return torch.from_numpy(flat).clamp(0, 1).view(-1, 3, self.resolution, self.resolution)

    def _check(self, images) -> None:
        if tuple(images.shape[1:]) != (3, self.resolution, self.resolution):
            raise ValueError(
                f"images have shape {tuple(images.shape)}; this generator takes "
                f"(N, 3, {self.resolution}, {self.resolution})."
            )


def _rows(images) -> np.ndarray:
    return to_float(images).contiguous().flatten(1).numpy()


class PairGenerator:
    """Two networks as a generator: images to codes, and codes to images.

    Parameters
    ----------
    encoder, decoder : callable
        Float32 arrays to float32 arrays: images (N, 3, R, R) in [0, 1] to codes (N, levels, width), and back. What
        comes back is clipped to [0, 1].
    resolution : int
        Side of the images in pixels.
    """

    def __init__(self, encoder: Callable, decoder: Callable, resolution: int):
        self._encoder, self._decoder, self.resolution = encoder, decoder, resolution

    @classmethod
    def from_onnx(cls, encoder: str | os.PathLike, decoder: str | os.PathLike, sha256: tuple[str, str] | None = None):
        """Two ONNX files with one input and one output each, and a free first axis.

        Parameters
        ----------
        encoder, decoder : path
        sha256 : two str, optional
            Hashes that the files must have.

        Raises
        ------
        FileNotFoundError, ValueError
            If a file is missing, is not the one that is meant, or is no such network; the sentence names it.
        """
        encoder, decoder = _verified((encoder, decoder), sha256)
        networks = [_onnx_network(file) for file in (encoder, decoder)]
        resolution = networks[0].shape[-1]
        if len(networks[0].shape) != 4 or not isinstance(resolution, int):
            raise ValueError(
                f"{encoder} takes {networks[0].shape}: valid is an encoder of images (N, 3, R, R) whose R is fixed."
            )
        return cls(*networks, resolution)

    @classmethod
    def from_torchscript(
        cls,
        encoder: str | os.PathLike,
        decoder: str | os.PathLike,
        resolution: int,
        sha256: tuple[str, str] | None = None,
        trust: bool = False,
        device: str = "auto",
    ):
        """Two TorchScript files. They can do whatever torch can: open only those whose origin you trust.

        Parameters
        ----------
        encoder, decoder : path
        resolution : int
            Side of the images in pixels.
        sha256 : two str
            Hashes that the files must have.
        trust : bool
            Must be True.
        device : {"auto", "cpu", "cuda", "mps"}

        Raises
        ------
        FileNotFoundError, ValueError
            If a file is missing or is not the one that is meant, or it is not said that it is trusted.
        """
        if trust is not True or sha256 is None:
            raise ValueError(
                f"{encoder} and {decoder} are TorchScript, which can do whatever torch can: valid is "
                "trust=True with the sha256 of both files, for files whose origin you trust."
            )
        where = runtime.device(device)
        return cls(*(_torchscript_network(file, where) for file in _verified((encoder, decoder), sha256)), resolution)

    @torch.no_grad()
    def encode(self, images, batch_size: int = 256) -> Tensor:
        """Codes (N, levels, width) of images (N, 3, R, R)."""
        if tuple(images.shape[1:]) != (3, self.resolution, self.resolution):
            raise ValueError(
                f"images have shape {tuple(images.shape)}; this generator takes "
                f"(N, 3, {self.resolution}, {self.resolution})."
            )
        probe = 1 if not len(images) else 0  # an empty set still has a shape of codes
        images = torch.zeros(1, 3, self.resolution, self.resolution) if probe else images
        starts = range(0, len(images), batch_size)
        codes = [self._encoder(to_float(images[i : i + batch_size]).contiguous().numpy()) for i in starts]
        return torch.from_numpy(np.concatenate(codes)[probe:]).float()

    @torch.no_grad()
    def decode(self, codes: Tensor, batch_size: int = 256) -> Tensor:
        """Images (N, 3, R, R), float32 in [0, 1], of codes (N, levels, width)."""
        if not len(codes):
            return torch.empty(0, 3, self.resolution, self.resolution)
        pictures = [self._decoder(batch.cpu().float().contiguous().numpy()) for batch in codes.split(batch_size)]
        return torch.from_numpy(np.concatenate(pictures)).float().clamp(0, 1)


def export_onnx(generator, folder: str | os.PathLike) -> tuple[Path, Path]:
    """Write our generator as ``encoder.onnx`` and ``decoder.onnx``, for programs without torch.

    Parameters
    ----------
    generator : diga_lib.latent.Generator
    folder : path

    Returns
    -------
    (Path, Path)
    """
    generator.eval()
    image = torch.zeros(2, 3, generator.resolution, generator.resolution)
    parts = {"encoder": (generator.codes_of, image), "decoder": (generator.images_of, generator.codes_of(image))}
    files = []
    for name, (function, example) in parts.items():
        files.append(Path(folder) / f"{name}.onnx")
        with runtime.atomic_write(files[-1]) as temporary:
            torch.onnx.export(
                _Function(generator, function),
                (example.detach(),),
                str(temporary),
                input_names=["x"],
                output_names=["y"],
                dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
                dynamo=False,
            )
    return tuple(files)


class _Function(torch.nn.Module):
    """A method of a generator as a network of its own."""

    def __init__(self, generator, function):
        super().__init__()
        self.generator, self.function = generator, function

    def forward(self, x):
        return self.function(x)


def _verified(files, sha256):
    files = [Path(file).expanduser() for file in files]
    for file, expected in zip(files, sha256 or (None, None)):
        if not file.is_file():
            raise FileNotFoundError(f"There is no file {file}.")
        found = runtime.sha256(file)
        if expected is not None and found != expected:
            raise ValueError(f"{file} is not the file that is meant: its sha256 is {found}, not {expected}.")
    return files


class _OnnxNetwork:
    def __init__(self, session, name, shape):
        self.session, self.name, self.shape = session, name, shape

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.session.run(None, {self.name: x})[0]


def _onnx_network(file):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as fault:  # onnxruntime's errors share no class of their own
        raise ValueError(f"{file} is not an ONNX network ({' '.join(str(fault).split())[:200]}).") from fault
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(f"{file} has {len(inputs)} inputs and {len(outputs)} outputs: valid is one of each.")
    return _OnnxNetwork(session, inputs[0].name, inputs[0].shape)


def _torchscript_network(file, device):
    try:
        network = torch.jit.load(str(file), map_location=device).eval()
    except RuntimeError as fault:
        raise ValueError(f"{file} is not a TorchScript file ({str(fault).splitlines()[0]}).") from fault
    return lambda x: network(torch.from_numpy(x).to(device)).cpu().numpy()
