"""Figures whose faces are painted by the real decoder inside the page, with sliders and without a kernel.

Python writes down what a page needs: the faces' codes, the directions, the controls, and a few frames for readers whose
browser cannot run the decoder. ``book/_assets/live/live.js`` does the rest. :func:`compose` is the rule by which both
turn the controls' values into a code.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from diga_lib.action_units.model import MOST, AUEditNet
from diga_lib.directions import Direction, paper_direction
from diga_lib.latent import Generator
from diga_lib.latent.onnx_export import decoder_id

FRAMES = 9  # precomputed places of a control, for browsers without WebAssembly


@dataclass(frozen=True)
class Control:
    """A slider.

    Attributes
    ----------
    name, label : str
        A key, and what readers see.
    low, high, step, value : float
        Range, step and first value. A degree is in standard deviations.
    move : dict
        What the value does: ``{"vector": k, "scale": s}`` moves by value x s along vector k;
        ``{"strong": k, "weak": l, "coefficient": name, "moments": [...]}`` along ``n_strong - c n_weak`` with c from
        another control; ``{"turn": name, "vectors": [...], "scales": [...]}`` along the vector that another control
        selects; ``{"unit": k}`` sets the k-th action unit's intensity. Empty if it only sets a value for others.
    places : sequence of str
        What a control that selects says at each place.
    """

    name: str
    label: str
    low: float
    high: float
    step: float
    value: float = 0.0
    move: Mapping = field(default_factory=dict)
    places: Sequence[str] = ()


@dataclass(frozen=True)
class Figure:
    """What a page needs to answer the sliders; shown by a notebook as one picture, by the book as a live figure."""

    name: str
    caption: str
    alt: str
    faces: np.ndarray  # (n, levels, width), float32: the codes to choose from
    vectors: np.ndarray  # (k, levels, width), float32
    controls: Sequence[Control]
    frames: Mapping[str, Sequence[str]]  # control -> WebP pictures, base64, at equal steps from low to high
    decoder: str = ""  # which decoder painted; a page with another one shows the frames
    spread: np.ndarray | None = None  # (2, levels, width): mean and deviation of codes, for random ones
    units: Mapping[str, np.ndarray] | None = None  # what an editor of action units does to each face, see `expressions`
    rest: np.ndarray | None = None  # (n, 3, R, R), int8: grey levels that a photograph has beyond its decoded code

    def payload(self) -> dict:
        """Everything, as JSON can hold it."""
        written = {"name": self.name, "alt": self.alt, "decoder": self.decoder, "shape": list(self.faces.shape)}
        written |= {"faces": _floats(self.faces), "vectors": _floats(self.vectors)}
        written |= {"frames": {k: list(v) for k, v in self.frames.items()}}
        written["controls"] = [{**vars(c), "move": dict(c.move), "places": list(c.places)} for c in self.controls]
        if self.spread is not None:
            written["spread"] = _floats(self.spread)
        if self.units is not None:
            written["units"] = {key: _floats(array) for key, array in self.units.items()}
        if self.rest is not None:
            written["rest"] = base64.b64encode(self.rest.tobytes()).decode()
        return written

    def _repr_html_(self) -> str:
        first = next(iter(self.frames.values()))
        data = json.dumps(self.payload(), separators=(",", ":")).replace("</", "<\\/")
        return (
            f'<figure class="live-figure" id="{html.escape(self.name)}">'
            f'<div class="live-stage"><img alt="{html.escape(self.alt)}" width="192" height="192" '
            f'src="data:image/webp;base64,{first[len(first) // 2]}"></div>'
            f'<figcaption><span class="live-caption">Live figure.</span> {html.escape(self.caption)} '
            '<span class="live-note">In the built book, sliders appear here.</span></figcaption>'
            f'<script type="application/json" class="live-data">{data}</script></figure>'
        )


def compose(figure: Figure, values: Mapping[str, float], face: int = 0) -> Tensor:
    """The code (1, levels, width) that a figure shows for its controls' values."""
    vectors = torch.from_numpy(figure.vectors)
    code = torch.from_numpy(figure.faces[face]).clone()
    if figure.units is not None:
        into, bias, maps = (torch.from_numpy(figure.units[key]) for key in ("into", "bias", "maps"))
        y = torch.tensor([float(values[c.name]) for c in figure.controls if "unit" in c.move]) / MOST
        curved = F.softplus(into @ y + bias) - F.softplus(bias)
        code += (maps[face] @ torch.cat([y, curved])).view_as(code)
    for control in figure.controls:
        move, degree = control.move, float(values[control.name])
        if "vector" in move:
            code += degree * move["scale"] * vectors[move["vector"]]
        elif "coefficient" in move:
            c = float(values[move["coefficient"]])
            pointing = vectors[move["strong"]] - c * vectors[move["weak"]]
            strong, both, weak = move["moments"]  # the codes' variances and covariance along the two normals
            variance = max(strong - 2 * c * both + c * c * weak, 0.0)
            code += degree * variance**0.5 / float(pointing.norm()) ** 2 * pointing
        elif "turn" in move:
            k = round(float(values[move["turn"]]))
            code += degree * move["scales"][k] * vectors[move["vectors"][k]]
    return code[None]


def combination(
    generator,
    faces: Tensor,
    train_codes: Tensor,
    strong: Tensor,
    weak: Tensor,
    coefficient: float,
    name: str,
    caption: str,
    alt: str,
    most: float = 6.0,
) -> Figure:
    """Degrees along n_cmb, the strong and the weak normal, and c.

    Parameters
    ----------
    generator : object with ``decode``
    faces : Tensor (n, levels, width)
        The faces to choose from.
    train_codes : Tensor (N, levels, width)
        One degree is a standard deviation of these.
    strong, weak : Tensor (levels, width)
        Unit normals of the two boundaries.
    coefficient : float
        Where c begins, from 0 to 1.5.
    name, caption, alt : str
    most : float
        The largest degree.

    References
    ----------
    Derived in notebook 02_biased_directions.
    """
    along = [torch.einsum("nlw,lw->n", train_codes, n).double() for n in (strong, weak)]
    covariance = np.cov(torch.stack(along).numpy())
    joint = {"strong": 0, "weak": 1, "coefficient": "c", "moments": [*covariance[0].tolist(), float(covariance[1, 1])]}
    scales = [float(variance) ** 0.5 for variance in np.diag(covariance)]
    controls = [
        _degree("combined", "degree along n_cmb = n_strong − c·n_weak", joint, most),
        Control("c", "c, how much of the weak normal is subtracted", 0.0, 1.5, 0.05, round(coefficient, 2)),
        _degree("strong", "degree along n_strong", {"vector": 0, "scale": scales[0]}, most),
        _degree("weak", "degree along n_weak", {"vector": 1, "scale": scales[1]}, most),
    ]
    return _figure(generator, name, caption, alt, faces, torch.stack([strong, weak]), controls)


def turning(
    generator,
    faces: Tensor,
    train_codes: Tensor,
    normals: Sequence[Tensor],
    labels: Sequence[str],
    name: str,
    caption: str,
    alt: str,
    most: float = 6.0,
) -> Figure:
    """A degree along a normal that a second slider, the strength of regularisation, turns.

    Parameters
    ----------
    generator, faces, train_codes, name, caption, alt, most
        As for :func:`combination`.
    normals : sequence of Tensor (levels, width)
        One for each place of the second slider.
    labels : sequence of str
        What it says there.

    References
    ----------
    Derived in notebook 02_biased_directions.
    """
    if len(labels) != len(normals):
        raise ValueError(f"There are {len(normals)} normals and {len(labels)} labels; each normal needs one.")
    scales = [paper_direction(train_codes, n).scale for n in normals]
    turned = {"turn": "strength", "vectors": list(range(len(normals))), "scales": scales}
    last = len(normals) - 1
    controls = [
        Control("strength", "λ per training image", 0, last, 1, last, places=tuple(labels)),
        _degree("degree", "degree along the boundary's normal", turned, most, 4.0),
    ]
    return _figure(generator, name, caption, alt, faces, torch.stack(list(normals)), controls)


def edits(
    generator,
    faces: Tensor,
    directions: Mapping[str, Direction],
    name: str,
    caption: str,
    alt: str,
    codes: Tensor | None = None,
    most: float = 6.0,
    photos: np.ndarray | None = None,
) -> Figure:
    """One degree for each of several directions; with `codes`, readers can draw a random code of their statistics.

    Parameters
    ----------
    generator, faces, name, caption, alt, most
        As for :func:`combination`.
    directions : mapping of str to Direction
        What the slider says, and the direction that it moves along.
    codes : Tensor (N, levels, width), optional
    photos : uint8 array (n, 3, R, R), optional
        The pictures of the faces: what their codes do not hold is added to all that is painted.

    References
    ----------
    Directions are derived in notebook 03_spurious_attribute.
    """
    found = list(directions.items())
    controls = [
        _degree(f"degree{k}", label, {"vector": k, "scale": one.scale}, most) for k, (label, one) in enumerate(found)
    ]
    spread = None if codes is None else torch.stack([codes.mean(0), codes.std(0)])
    rest = None
    if photos is not None:
        rest = np.round(photos - 255 * generator.decode(faces).cpu().numpy()).clip(-127, 127).astype(np.int8)
    vectors = torch.stack([one.direction for _, one in found])
    return _figure(generator, name, caption, alt, faces, vectors, controls, spread, rest=rest)


@torch.no_grad()
def expressions(
    generator,
    faces: Tensor,
    editor: AUEditNet,
    labels: Sequence[str],
    name: str,
    caption: str,
    alt: str,
    least: float = -1.0,
    most: float = 7.0,
) -> Figure:
    """A slider for the intensity of each action unit, which AUEditNet's target branch puts on neutral faces.

    For one face the gates of the editing modules are constants, so what the branch adds to the code is a linear map of
    the label encoder's features: the intensities, straight and curved.

    Parameters
    ----------
    generator : object with ``decode``
    faces : Tensor (n, levels, width)
        Codes of neutral faces.
    editor : AUEditNet
    labels : sequence of str
        What each unit's slider says.
    name, caption, alt : str
    least, most : float
        The sliders' range; 0 is the neutral face, and 5 the strongest that a coder writes down.

    References
    ----------
    Derived in notebook 09_action_units.
    """
    encoder, levels, width = editor.encoder, faces.shape[1], editor.encoder.width
    features = torch.cat([encoder.straight.weight, encoder.out.weight], 1).view(levels, width, -1)
    flat, maps = faces.flatten(1), []
    for module, of_level in zip(editor.modules_of_levels, features, strict=True):
        gated = torch.einsum("wr,nr,re->nwe", module.own.weight, module.gate(flat), module.asked.weight)
        maps.append((module.common.weight + gated) @ of_level)
    arrays = {"into": encoder.into.weight, "bias": encoder.into.bias, "maps": torch.cat(maps, 1)}
    units = {key: value.detach().cpu().numpy().astype(np.float32) for key, value in arrays.items()}
    controls = [Control(f"unit{k}", label, least, most, 0.1, 0.0, {"unit": k}) for k, label in enumerate(labels)]
    return _figure(generator, name, caption, alt, faces, faces[:0], controls, units=units)


def _degree(name: str, label: str, move: dict, most: float, value: float = 0.0) -> Control:
    return Control(name, label, -most, most, 0.1, value, move)


def _figure(generator, name, caption, alt, faces, vectors, controls, spread=None, units=None, rest=None) -> Figure:
    def as_numpy(x):
        return x.detach().cpu().numpy().astype(np.float32)

    decoder = decoder_id(generator) if isinstance(generator, Generator) else ""
    spread = None if spread is None else as_numpy(spread)
    bare = Figure(name, caption, alt, as_numpy(faces), as_numpy(vectors), controls, {}, decoder, spread, units, rest)
    start = {control.name: control.value for control in controls}
    frames = {}
    for control in controls:
        values = np.linspace(control.low, control.high, len(control.places) or FRAMES)
        if not control.move and not control.places:  # c alone moves nothing while all degrees are 0
            start_moved = start | {controls[0].name: controls[0].high / 2}
        else:
            start_moved = start
        codes = [compose(bare, start_moved | {control.name: float(value)}) for value in values]
        pictures = generator.decode(torch.cat(codes)).cpu()
        if rest is not None:
            pictures = pictures + torch.from_numpy(rest[0]) / 255
        frames[control.name] = [_webp(one) for one in pictures]
    return Figure(**{**vars(bare), "frames": frames})


def _floats(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode()


def _webp(picture: Tensor) -> str:
    pixels = (picture.detach() * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=90)
    return base64.b64encode(buffer.getvalue()).decode()
