"""The decoder as an ONNX model, small enough to be loaded by a page and run in a browser.

Its large arrays are packed as integers; ``book/_assets/live/painter.mjs`` unpacks them into the model's external data.
"""

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

from diga_lib.latent.autoencoder import LEVELS, WIDTH, Generator

STEP = 1e-4  # of a picture's range: the grid on which each component's part in the picture is rounded
SMALL = 4096  # arrays of fewer numbers stay in the model


def decoder_id(generator: Generator) -> str:
    """A digest of what paints: equal for generators whose pictures are equal."""
    digest = hashlib.sha256()
    for part in (generator.base, generator.decoder):
        for name, values in sorted(part.state_dict().items()):
            digest.update(name.encode() + values.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def decoder_files(generator: Generator) -> dict[str, bytes]:
    """Export ``Generator.decode`` for one code at a time; equal generators give equal bytes.

    The file ``decoder.onnx`` maps ``codes``, float32 (1, levels, width), to ``images``, float32 (1, 3, R, R) in [0, 1],
    with ``decoder.bin`` as external data; ``decoder.bin.gz`` is that data, packed, and ``decoder.json`` says who
    painted, and how to unpack.
    """
    whole = copy.deepcopy(generator).to("cpu", memory_format=torch.contiguous_format).eval()
    buffer, example = io.BytesIO(), torch.zeros(1, LEVELS, WIDTH)
    names = {"input_names": ["codes"], "output_names": ["images"]}
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter that needs no further package
        torch.onnx.export(whole, (example,), buffer, opset_version=17, dynamo=False, **names)
    model = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(model)
    arrays, packed, offset = [], b"", 0
    for array in model.graph.initializer:
        values = numpy_helper.to_array(array)
        if values.size < SMALL:
            continue
        record, part = _packed(array.name, values, generator)
        arrays.append(record | {"at": len(packed)})
        packed += part + bytes(-len(part) % 4)
        set_external_data(array, "decoder.bin", offset=offset, length=4 * values.size)
        array.ClearField("raw_data")
        offset += 4 * values.size
    return {
        "decoder.onnx": model.SerializeToString(deterministic=True),
        "decoder.json": json.dumps({"decoder": decoder_id(generator), "arrays": arrays}).encode(),
        "decoder.bin.gz": gzip.compress(packed, 9, mtime=0),
    }


def _packed(name: str, values: np.ndarray, generator: Generator) -> tuple[dict, bytes]:
    """An array as steps, one a row, and how many of them each number is; and how to unpack it."""
    pictures = name in ("base.basis", "base.mean")  # one a row
    table = values.reshape(1 if name == "base.mean" else len(values), -1)
    most, run = np.abs(table).max(1, keepdims=True), generator.resolution if pictures else 0
    if pictures:
        # A component enters the picture times its scale, so fine components need fewer digits.
        scale = generator.base.scale.cpu().numpy()[:, None] if name == "base.basis" else np.ones((1, 1), "f4")
        step = np.maximum(STEP / np.maximum(scale, 1e-12), most / 32000 + 1e-12).astype("<f4")
        # Differences along rows of pixels, as 0, -1, 1, -2, 2, …, low and high bytes: neighbours are alike, so most
        # high bytes are zero.
        change = np.diff(np.round(table / step).astype(np.int32).reshape(-1, run), axis=1, prepend=0)
        folded = (change << 1) ^ (change >> 31)
        whole = (folded & 255).astype(np.uint8).tobytes() + (folded >> 8).astype(np.uint8).tobytes()
    else:  # a layer's weights: 8 bits, one scale an output
        step = np.maximum(most / 127, 1e-12).astype("<f4")
        whole = np.round(table / step).astype(np.int8).tobytes()
    return {"rows": len(table), "columns": table.shape[1], "run": run}, step.tobytes() + whole
