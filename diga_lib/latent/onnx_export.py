"""The decoder as an ONNX model, small enough to be loaded by a page and run in a browser.

Exported by torch, then its large arrays are stored as integers. The graph itself turns them back into floating-point
numbers, once, when a session is made, so any ONNX runtime can load the file.
"""

from __future__ import annotations

import contextlib
import copy
import gzip
import hashlib
import io
import warnings

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from diga_lib.latent.autoencoder import LEVELS, WIDTH, Generator

STEP = 8e-5  # of a picture's range: the grid on which each component's part in the picture is rounded
SMALL = 4096  # arrays of fewer numbers stay as they are
BASIS, MEAN = "generator.base.basis", "generator.base.mean"


class _Decode(nn.Module):
    def __init__(self, generator: Generator):
        super().__init__()
        self.generator = generator

    def forward(self, codes: Tensor) -> Tensor:
        return self.generator.images_of(codes).clamp(0, 1)


def decoder_id(generator: Generator) -> str:
    """A digest of what paints: equal for generators whose pictures are equal."""
    digest = hashlib.sha256()
    for part in (generator.base, generator.decoder):
        for name, values in sorted(part.state_dict().items()):
            digest.update(name.encode() + values.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def decoder_onnx(generator: Generator) -> bytes:
    """Export ``Generator.decode`` for one code at a time.

    Parameters
    ----------
    generator : Generator
        Any generator; it is not changed.

    Returns
    -------
    bytes
        A gzip-compressed ONNX model with input ``codes``, float32 (1, levels, width), and output ``images``, float32
        (1, 3, R, R) in [0, 1]. Equal generators give equal bytes.

    References
    ----------
    The generator is the one of notebook 01_latent_space.
    """
    whole = _Decode(copy.deepcopy(generator).to("cpu", memory_format=torch.contiguous_format)).eval()
    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter that needs no further package
        torch.onnx.export(
            whole, (torch.zeros(1, LEVELS, WIDTH),), buffer, input_names=["codes"], output_names=["images"],
            opset_version=17, dynamo=False,
        )  # fmt: skip
    model = onnx.load_from_string(buffer.getvalue())
    _pack(model, generator.base.scale.cpu().numpy(), generator.resolution)
    onnx.checker.check_model(model)
    return gzip.compress(model.SerializeToString(deterministic=True), 9, mtime=0)


def _pack(model: onnx.ModelProto, scale: np.ndarray, resolution: int) -> None:
    """Replace the large arrays by integers and the nodes that decode them."""
    nodes, arrays = [], []
    for array in model.graph.initializer:
        values = numpy_helper.to_array(array)
        if values.size < SMALL:
            arrays.append(array)
        elif array.name == MEAN:
            _add(nodes, arrays, array.name, [("Cast", {"to": onnx.TensorProto.FLOAT}, [])], values.astype(np.float16))
        elif array.name == BASIS:
            _pack_basis(nodes, arrays, values, scale, resolution)
        else:  # a layer's weights: 8 bits, one scale an output
            step = np.abs(values).reshape(len(values), -1).max(1) / 127
            step = np.maximum(step, 1e-12).reshape(-1, *[1] * (values.ndim - 1)).astype(np.float32)
            stages = [("Cast", {"to": onnx.TensorProto.FLOAT}, []), ("Mul", {}, [step])]
            _add(nodes, arrays, array.name, stages, np.round(values / step).astype(np.int8))
    del model.graph.initializer[:]
    model.graph.initializer.extend(arrays)
    for position, node in enumerate(nodes):
        model.graph.node.insert(position, node)


def _pack_basis(nodes: list, arrays: list, basis: np.ndarray, scale: np.ndarray, resolution: int) -> None:
    """Round the components so that each errs alike in the picture, and store differences along rows of pixels.

    A component enters the picture times its scale, so fine components need fewer digits. Differences of neighbours
    are small; written as 0, -1, 1, -2, 2, … and split into high and low bytes, they compress well.
    """
    step = (STEP / np.maximum(scale, 1e-12)).astype(np.float32)[:, None]
    step = np.maximum(step, np.abs(basis).max(1, keepdims=True) / 32000 + 1e-12)
    whole = np.round(basis / step).astype(np.int32).reshape(-1, resolution)
    difference = np.diff(whole, axis=1, prepend=0)
    folded = (difference << 1) ^ (difference >> 31)
    high, low = (folded >> 8).astype(np.uint8), (folded & 255).astype(np.uint8)
    number = onnx.TensorProto.FLOAT
    _add(nodes, arrays, "basis.low", [("Cast", {"to": number}, [])], low)
    _add(nodes, arrays, "basis.high", [("Cast", {"to": number}, []), ("Mul", {}, [np.float32(256)])], high)
    nodes.append(helper.make_node("Add", ["basis.high", "basis.low"], ["basis.folded"]))
    # Unfold z: half = floor(z / 2), and half - (z - 2 half) z is z / 2 for even z and -(z + 1) / 2 for odd z.
    for value, name in ((0.5, "basis.by_half"), (2.0, "basis.two")):
        arrays.append(numpy_helper.from_array(np.float32(value), name))
    arrays.append(numpy_helper.from_array(np.asarray(1, np.int64), "basis.axis"))
    arrays.append(numpy_helper.from_array(np.asarray(basis.shape, np.int64), "basis.shape"))
    arrays.append(numpy_helper.from_array(step.astype(np.float32), "basis.step"))
    nodes += [
        helper.make_node("Mul", ["basis.folded", "basis.by_half"], ["basis.halved"]),
        helper.make_node("Floor", ["basis.halved"], ["basis.half"]),
        helper.make_node("Mul", ["basis.half", "basis.two"], ["basis.even"]),
        helper.make_node("Sub", ["basis.folded", "basis.even"], ["basis.odd"]),
        helper.make_node("Mul", ["basis.odd", "basis.folded"], ["basis.minus"]),
        helper.make_node("Sub", ["basis.half", "basis.minus"], ["basis.difference"]),
        helper.make_node("CumSum", ["basis.difference", "basis.axis"], ["basis.whole"]),
        helper.make_node("Reshape", ["basis.whole", "basis.shape"], ["basis.rows"]),
        helper.make_node("Mul", ["basis.rows", "basis.step"], [BASIS]),
    ]


def _add(nodes: list, arrays: list, name: str, stages: list, values: np.ndarray) -> None:
    """Store values under another name, and append a chain of nodes whose result has the name."""
    arrays.append(numpy_helper.from_array(values, f"{name}.stored"))
    last = f"{name}.stored"
    for place, (kind, attributes, operands) in enumerate(stages):
        names = [f"{name}.{place}.{k}" for k in range(len(operands))]
        arrays += [numpy_helper.from_array(np.asarray(operand), each) for operand, each in zip(operands, names)]
        out = name if place == len(stages) - 1 else f"{name}.{place}"
        nodes.append(helper.make_node(kind, [last, *names], [out], **attributes))
        last = out
