"""Figures whose faces are painted by the real decoder inside the page, with sliders and without a kernel.

Python writes down what a page needs: the faces' codes, the directions, the controls, and a few frames for readers whose
browser cannot run the decoder. ``book/_assets/live/live.js`` does the rest. :func:`compose` is the rule by which both
turn the controls' values into a code.
"""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from diga_lib.action_units.editors import MOST, AUEditNet
from diga_lib.directions import Direction, paper_direction
from diga_lib.latent import Generator
from diga_lib.latent.onnx_export import decoder_id
from diga_lib.pages.plots import as_pixels
from diga_lib.pages.widgets import webp

MOST_DEGREES = 6.0  # a slider's range, to both sides
FRAMES = 9  # precomputed places of a control, for browsers without WebAssembly


@dataclass(frozen=True)
class Control:
    """A slider: its name, range, step and first value (a degree is in standard deviations), and what it does.

    `move` is ``{"vector": k, "scale": s}`` to move by value x s along vector k; ``{"strong": k, "weak": l,
    "coefficient": name, "moments": [...]}`` to move along ``n_strong - c n_weak`` with c from another control;
    ``{"turn": name, "vectors": [...], "scales": [...]}`` along the vector that another control selects, which says its
    `places`; ``{"unit": k}`` to set the k-th action unit's intensity; empty if it only sets a value for others.
    """

    name: str
    label: str  # what readers see
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
    frames: dict[str, list[str]] = field(default_factory=dict)  # control -> WebP pictures, at equal steps of its range
    decoder: str = ""  # which decoder painted; a page with another one shows the frames
    spread: np.ndarray | None = None  # (2, levels, width): mean and deviation of codes, for random ones
    units: Mapping[str, np.ndarray] | None = None  # what an editor of action units does to each face, see `expressions`
    rest: np.ndarray | None = None  # (n, 3, R, R), int8: grey levels that a photograph has beyond its decoded code

    def payload(self) -> dict:
        """Everything, as JSON can hold it."""
        written = {"name": self.name, "alt": self.alt, "decoder": self.decoder, "shape": list(self.faces.shape)}
        written |= {"faces": _floats(self.faces), "vectors": _floats(self.vectors)}
        written["frames"] = self.frames
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
    generator, faces: Tensor, train_codes: Tensor, strong: Tensor, weak: Tensor, coefficient: float, **words: str
) -> Figure:
    """Degrees along n_cmb, along the strong and the weak normal, and c, as derived in notebook 02_biased_directions.

    Parameters
    ----------
    generator, faces : object with ``decode``, Tensor (n, levels, width)
        The faces to choose from.
    train_codes : Tensor (N, levels, width)
        One degree is a standard deviation of these.
    strong, weak, coefficient : Tensors (levels, width), float
        Unit normals of the two boundaries, and where c begins, from 0 to 1.5.
    **words : str
        name, caption and alt of the figure.
    """
    along = [torch.einsum("nlw,lw->n", train_codes, n).double() for n in (strong, weak)]
    covariance = np.cov(torch.stack(along).numpy())
    joint = {"strong": 0, "weak": 1, "coefficient": "c", "moments": [*covariance[0].tolist(), float(covariance[1, 1])]}
    scales = [float(variance) ** 0.5 for variance in np.diag(covariance)]
    controls = [
        _degree("combined", "degree along n_cmb = n_strong − c·n_weak", joint),
        Control("c", "c, how much of the weak normal is subtracted", 0.0, 1.5, 0.05, round(coefficient, 2)),
        _degree("strong", "degree along n_strong", {"vector": 0, "scale": scales[0]}),
        _degree("weak", "degree along n_weak", {"vector": 1, "scale": scales[1]}),
    ]
    return _figure(generator, faces, torch.stack([strong, weak]), controls, words)


def turning(
    generator, faces: Tensor, train_codes: Tensor, normals: Sequence[Tensor], labels: Sequence[str], **words: str
) -> Figure:
    """A degree along a normal that a second slider, the strength of regularisation, turns.

    Parameters
    ----------
    generator, faces, train_codes, **words
        As for :func:`combination`.
    normals, labels : sequences of Tensor (levels, width) and of str
        One for each place of the second slider, and what it says there.
    """
    if len(labels) != len(normals):
        raise ValueError(f"There are {len(normals)} normals and {len(labels)} labels; each normal needs one.")
    scales = [paper_direction(train_codes, n).scale for n in normals]
    turned = {"turn": "strength", "vectors": list(range(len(normals))), "scales": scales}
    last = len(normals) - 1
    controls = [
        Control("strength", "λ per training image", 0, last, 1, last, places=tuple(labels)),
        _degree("degree", "degree along the boundary's normal", turned, 4.0),
    ]
    return _figure(generator, faces, torch.stack(list(normals)), controls, words)


def edits(
    generator,
    faces: Tensor,
    directions: Mapping[str, Direction],
    codes: Tensor | None = None,
    photos: np.ndarray | None = None,
    **words: str,
) -> Figure:
    """One degree for each of several directions, such as notebook 03_spurious_attribute finds.

    Parameters
    ----------
    generator, faces, **words
        As for :func:`combination`.
    directions : mapping of str to Direction
        What the slider says, and the direction that it moves along.
    codes : Tensor (N, levels, width), optional
        With these, readers can draw a random code of their statistics.
    photos : uint8 array (n, 3, R, R), optional
        The pictures of the faces: what their codes do not hold is added to all that is painted.
    """
    controls = [
        _degree(f"degree{k}", label, {"vector": k, "scale": one.scale})
        for k, (label, one) in enumerate(directions.items())
    ]
    more = {}
    if codes is not None:
        more["spread"] = _as_numpy(torch.stack([codes.mean(0), codes.std(0)]))
    if photos is not None:
        rest = np.round(photos - 255 * generator.decode(faces).cpu().numpy())
        more["rest"] = rest.clip(-127, 127).astype(np.int8)
    vectors = torch.stack([one.direction for one in directions.values()])
    return _figure(generator, faces, vectors, controls, words, **more)


@torch.no_grad()
def expressions(generator, faces: Tensor, editor: AUEditNet, labels: Sequence[str], **words: str) -> Figure:
    """A slider for each action unit, which AUEditNet's target branch (notebook 09_action_units) puts on neutral faces.

    For one face the gates of the editing modules are constants, so what the branch adds to the code is a linear map of
    the label encoder's features: the intensities, straight and curved.

    Parameters
    ----------
    generator, faces, **words
        As for :func:`combination`; the faces are neutral.
    editor : AUEditNet
    labels : sequence of str
        What each unit's slider says, from -1 to 7; 0 is the neutral face, 5 the strongest that a coder writes down.
    """
    encoder, levels, width = editor.encoder, faces.shape[1], editor.encoder.width
    features = torch.cat([encoder.straight.weight, encoder.out.weight], 1).view(levels, width, -1)
    flat, maps = faces.flatten(1), []
    for module, of_level in zip(editor.modules_of_levels, features, strict=True):
        gated = torch.einsum("wr,nr,re->nwe", module.own.weight, module.gate(flat), module.asked.weight)
        maps.append((module.common.weight + gated) @ of_level)
    arrays = {"into": encoder.into.weight, "bias": encoder.into.bias, "maps": torch.cat(maps, 1)}
    units = {key: _as_numpy(value) for key, value in arrays.items()}
    controls = [Control(f"unit{k}", label, -1.0, 7.0, 0.1, 0.0, {"unit": k}) for k, label in enumerate(labels)]
    return _figure(generator, faces, faces[:0], controls, words, units=units)


def _degree(name: str, label: str, move: dict, value: float = 0.0) -> Control:
    return Control(name, label, -MOST_DEGREES, MOST_DEGREES, 0.1, value, move)


def _figure(generator, faces: Tensor, vectors: Tensor, controls: list[Control], words: dict, **more) -> Figure:
    decoder = decoder_id(generator) if isinstance(generator, Generator) else ""
    figure = Figure(
        **words, faces=_as_numpy(faces), vectors=_as_numpy(vectors), controls=controls, decoder=decoder, **more
    )
    start = {control.name: control.value for control in controls}
    for control in controls:
        begin = dict(start)
        if not control.move and not control.places:  # c alone moves nothing while all degrees are 0
            begin[controls[0].name] = controls[0].high / 2
        values = np.linspace(control.low, control.high, len(control.places) or FRAMES)
        codes = [compose(figure, begin | {control.name: float(value)}) for value in values]
        pictures = generator.decode(torch.cat(codes)).detach().cpu().numpy()
        if figure.rest is not None:
            pictures = pictures + figure.rest[0] / 255
        figure.frames[control.name] = [webp(one) for one in as_pixels(pictures)]
    return figure


def _as_numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(np.float32)


def _floats(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode()
