"""The decoder as an ONNX model, small enough to be loaded by a page and run in a browser.

Exported by torch. Its large arrays are taken out and packed as integers; who loads the model unpacks them first
(``book/_assets/live/painter.mjs`` does in a page) and hands them over as the model's external data.
"""

from __future__ import annotations

import contextlib
import copy
import gzip
import hashlib
import io
import json
import warnings

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnx.external_data_helper import set_external_data
from torch import Tensor, nn

from diga_lib.latent.autoencoder import LEVELS, WIDTH, Generator

STEP = 1e-4  # of a picture's range: the grid on which each component's part in the picture is rounded
SMALL = 4096  # arrays of fewer numbers stay in the model
BASIS, MEAN = "generator.base.basis", "generator.base.mean"
WEIGHTS = "decoder.bin"  # the name under which the model asks for its external data


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


def decoder_files(generator: Generator) -> dict[str, bytes]:
    """Export ``Generator.decode`` for one code at a time.

    Parameters
    ----------
    generator : Generator
        Any generator; it is not changed.

    Returns
    -------
    dict of str to bytes
        ``decoder.onnx``: input ``codes``, float32 (1, levels, width), output ``images``, float32 (1, 3, R, R) in
        [0, 1]; its external data is ``decoder.bin``. ``decoder.bin.gz``: that data, packed. ``decoder.json``: who
        painted, and how to unpack. Equal generators give equal bytes.

    References
    ----------
    The generator is the one of notebook 01_latent_space.
    """
    whole = _Decode(copy.deepcopy(generator).to("cpu", memory_format=torch.contiguous_format)).eval()
    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter that needs no further package
        torch.onnx.export(
            whole,
            (torch.zeros(1, LEVELS, WIDTH),),
            buffer,
            input_names=["codes"],
            output_names=["images"],
            opset_version=17,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(model)
    arrays, packed = _take_out(model, generator.base.scale.cpu().numpy(), generator.resolution)
    recipe = {"decoder": decoder_id(generator), "arrays": arrays}
    return {
        "decoder.onnx": model.SerializeToString(deterministic=True),
        "decoder.json": json.dumps(recipe).encode(),
        "decoder.bin.gz": gzip.compress(packed, 9, mtime=0),
    }


def _take_out(model: onnx.ModelProto, scale: np.ndarray, resolution: int) -> tuple[list[dict], bytes]:
    """Replace the model's large arrays by references into external data; return how each is packed, and all packed."""
    arrays, packed, offset, at = [], [], 0, 0
    for array in model.graph.initializer:
        values = numpy_helper.to_array(array)
        if values.size < SMALL:
            continue
        is_picture = array.name in (BASIS, MEAN)  # one picture a row
        table = values.reshape(1 if array.name == MEAN else len(values), -1)
        most = np.abs(table).max(1, keepdims=True)
        if is_picture:
            # A component enters the picture times its scale, so fine components need fewer digits.
            step = STEP / np.maximum(scale[:, None], 1e-12) if array.name == BASIS else np.full((1, 1), STEP)
            step = np.maximum(step, most / 32000 + 1e-12).astype("<f4")
            parts = _folded(np.round(table / step).astype(np.int32), resolution)
        else:  # a layer's weights: 8 bits, one scale an output
            step = np.maximum(most / 127, 1e-12).astype("<f4")
            parts = [np.round(table / step).astype(np.int8)]
        record = {"rows": len(table), "columns": table.shape[1], "run": resolution if is_picture else 0, "at": at}
        part = step.tobytes() + b"".join(one.tobytes() for one in parts)
        part += bytes(-len(part) % 4)
        arrays.append(record)
        packed.append(part)
        at += len(part)
        set_external_data(array, WEIGHTS, offset=offset, length=4 * values.size)
        array.ClearField("raw_data")
        offset += 4 * values.size
    return arrays, b"".join(packed)


def _folded(whole: np.ndarray, run: int) -> list[np.ndarray]:
    """Differences along rows of pixels, low and high bytes: neighbours are alike, so these compress well.

    A difference is written as 0, -1, 1, -2, 2, … so that small ones have a high byte of zero.
    """
    difference = np.diff(whole.reshape(-1, run), axis=1, prepend=0)
    folded = (difference << 1) ^ (difference >> 31)
    return [(folded & 255).astype(np.uint8), (folded >> 8).astype(np.uint8)]
