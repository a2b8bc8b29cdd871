"""Any generator plugs in: what the library asks of one, a check to run on yours, and two that are not ours.

The library calls ``encode`` and ``decode`` and reads ``resolution``, nothing else. :class:`WPlusGenerator` describes
them, :func:`check_generator` tries them. :class:`PCAGenerator` is the simplest generator there is;
:class:`PairGenerator` wraps two networks, such as two ONNX files: graphs of known operations, which onnxruntime
computes and which run no code of their author.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from diga_lib import runtime
from diga_lib.latent.autoencoder import check_images, to_float
from diga_lib.latent.protocol import ConformanceError, WPlusGenerator, check_generator

__all__ = ["ConformanceError", "PCAGenerator", "PairGenerator", "WPlusGenerator", "check_generator"]


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
        check_images(images, self.resolution)
        codes = self.pca.transform(_rows(images)) if len(images) else np.empty((0, self.levels * self.width))
        return torch.from_numpy(codes.astype(np.float32)).view(-1, self.levels, self.width)

    def decode(self, codes: Tensor, batch_size: int = 256) -> Tensor:
        """Images (N, 3, R, R), float32 in [0, 1], of codes (N, levels, width)."""
        flat = self.pca.inverse_transform(codes.detach().cpu().flatten(1).numpy()).astype(np.float32)
        return torch.from_numpy(flat).clamp(0, 1).view(-1, 3, self.resolution, self.resolution)


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
    def from_onnx(cls, encoder: str | os.PathLike, decoder: str | os.PathLike, sha256: Sequence[str] | None = None):
        """Two ONNX files with one input and one output each, and a free first axis.

        Parameters
        ----------
        encoder, decoder : path
        sha256 : two str, optional
            Hashes that the files must have, in hexadecimal.

        Raises
        ------
        FileNotFoundError, ValueError
            If a file is missing, is not the one that is meant, or is no such network; the sentence names it.
        """
        files = [Path(file).expanduser() for file in (encoder, decoder)]
        if sha256 is not None and (isinstance(sha256, str) or len(sha256) != len(files)):
            raise ValueError(f"sha256 is {sha256!r}: valid are two hashes, one of each file.")
        for file, expected in zip(files, sha256 or (None, None), strict=True):
            if not file.is_file():
                raise FileNotFoundError(f"There is no file {file}.")
            if sha256 is not None and (found := runtime.sha256(file)) != expected:
                raise ValueError(f"{file} is not the file that is meant: its sha256 is {found}, not {expected}.")
        (encoder, shape), (decoder, _) = (_onnx_network(file) for file in files)
        if len(shape) != 4 or not isinstance(shape[-1], int):
            raise ValueError(f"{files[0]} takes {shape}: valid is an encoder of images (N, 3, R, R) whose R is fixed.")
        return cls(encoder, decoder, shape[-1])

    @torch.no_grad()
    def encode(self, images, batch_size: int = 256) -> Tensor:
        """Codes (N, levels, width) of images (N, 3, R, R)."""
        check_images(images, self.resolution)
        probe = 0 if len(images) else 1  # an empty set still has a shape of codes
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


def _onnx_network(file: Path) -> tuple[Callable[[np.ndarray], np.ndarray], list]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as fault:  # onnxruntime's errors share no class of their own
        raise ValueError(f"{file} is not an ONNX network ({' '.join(str(fault).split())[:200]}).") from fault
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(f"{file} has {len(inputs)} inputs and {len(outputs)} outputs: valid is one of each.")
    return lambda x: session.run(None, {inputs[0].name: x})[0], inputs[0].shape
