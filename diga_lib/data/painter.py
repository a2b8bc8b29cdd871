"""Paint faces from named numbers: a batched signed-distance renderer in plain torch.

The canvas is [-1, 1] x [-1, 1] with y pointing down. Faces are aligned as in CelebA's crops: the eyes lie at
``(+-EYE_X, EYE_Y)``, and head movements are small shifts of the features. Nearly every outline is a function of x
or of y alone, so it is computed on one row or one column and only compared on the full window. That, and painting
each feature in its own window of the canvas, is where the speed comes from.

Only :mod:`diga_lib.data.faces` decides *which* numbers are drawn; nothing here is random.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

EYE_X, EYE_Y = 0.30, -0.12
MOUTH_Y, NOSE_Y, CHIN_Y = 0.51, 0.27, 0.92


def _mix(a, b, t):
    return a + (b - a) * t


def _bell(u: Tensor) -> Tensor:
    return torch.exp(-u * u)


def _ramp(u: Tensor) -> Tensor:
    """Smooth step from 0 at u = 0 to 1 at u = 1."""
    u = u.clamp(0, 1)
    return u * u * (3 - 2 * u)


class Canvas:
    """An image batch (N, 3, R, R) in [0, 1], its coordinates, and the few ways to put paint on it."""

    def __init__(self, count: int, resolution: int):
        self.image = torch.zeros(count, 3, resolution, resolution)
        self.axis = (torch.arange(resolution) + 0.5) / resolution * 2 - 1
        self.pixel = 2.0 / resolution
        self.resolution = resolution

    def window(self, left: float, right: float, top: float, bottom: float) -> Window:
        def edge(v):
            return min(max(round((v + 1) / self.pixel), 0), self.resolution)

        return Window(self, slice(edge(top), edge(bottom)), slice(edge(left), edge(right)))


class Window:
    """A rectangle of the canvas with its own x (1, 1, w) and y (1, h, 1)."""

    def __init__(self, canvas: Canvas, rows: slice, columns: slice):
        self.pixels = canvas.image[:, :, rows, columns]
        self.x, self.y = canvas.axis[None, None, columns], canvas.axis[None, rows, None]
        self.rows, self.columns, self.pixel = rows, columns, canvas.pixel

    def inside(self, distance: Tensor, soft: float = 1.0) -> Tensor:
        """Coverage in [0, 1] of the region where `distance` < 0, anti-aliased over about `soft` pixels."""
        return (0.5 - distance * (1 / (self.pixel * soft))).clamp(0, 1)

    def paint(self, coverage: Tensor, colour: Tensor) -> None:
        self.pixels.lerp_(colour.expand_as(self.pixels), coverage.unsqueeze(1).expand_as(self.pixels))

    def shade(self, amount: Tensor) -> None:
        """Darken (amount > 0) or lighten (amount < 0) what is there already."""
        self.pixels.mul_((1 - amount).unsqueeze(1))

    def cut(self, field: Tensor) -> Tensor:
        return field[:, self.rows, self.columns]


def _field(noise: Tensor, resolution: int) -> Tensor:
    """Smooth (N, R, R) texture from a small grid of standard normal numbers (N, h, w)."""
    return F.interpolate(noise[:, None], (resolution, resolution), mode="bilinear", align_corners=False)[:, 0]


def in_batches(paint, p: dict[str, np.ndarray], resolution: int) -> np.ndarray:
    """Paint the pictures of parameters as uint8 images (n, 3, resolution, resolution).

    Batches are of exactly 32 pictures, the last one padded, and one thread paints them: vector instructions treat the
    tail of an array differently in the last bit, and neither that nor how work is split may show in a picture.
    """
    count, size = len(p["shift_x"]), 32
    images = np.empty((count, 3, resolution, resolution), np.uint8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for start in range(0, count, size):
                rows = np.minimum(np.arange(start, start + size), count - 1)
                painted = paint({name: torch.from_numpy(value[rows]) for name, value in p.items()}, resolution)
                images[start : start + size] = (painted * 255 + 0.5).to(torch.uint8).numpy()[: count - start]
    finally:
        torch.set_num_threads(threads)
    return images


def paint(p: dict[str, Tensor], resolution: int = 64) -> Tensor:
    """Paint a batch of faces, float32 (N, 3, resolution, resolution) in [0, 1].

    `p` has scalars of each face (N,), colours (N, 3) and noise grids (N, h, w), as made by
    :func:`diga_lib.data.faces.parameters`. Action units and other strengths are in [0, 1].
    """
    count = len(p["male_shape"])
    canvas = Canvas(count, resolution)
    face = _Face(p, canvas)
    face.background()
    face.hair_behind()
    face.neck_and_clothes()
    face.head()
    face.cheeks_and_age()
    face.nose()
    face.beard()
    face.mouth()
    for side in (-1, 1):
        face.eye(side)
        face.brow(side)
    face.forehead()
    face.hair_in_front()
    face.glasses()
    return face.camera()


class _Face:
    """One batch in the making: `v("name")` is a parameter as (N, 1, 1), `c("name")` a colour as (N, 3, 1, 1)."""

    def __init__(self, p: dict[str, Tensor], canvas: Canvas):
        self.p, self.canvas, self.n = p, canvas, len(p["male_shape"])
        self.texture = _field(p["skin_noise"], canvas.resolution)
        self.strands = _field(p["strand_noise"], canvas.resolution)
        self.all = canvas.window(-1, 1, -1, 1)
        v = self.v
        # Head pose moves the features (near the camera) more than the outline; a roll is a shear at these angles.
        self.feature_x = v("shift_x") + 0.055 * v("yaw")
        self.feature_y = v("shift_y") + 0.030 * v("pitch")
        self.roll = v("roll")
        # Half-width of the head at each height: a superellipse, squarer and wider at the jaw for masculine faces.
        y = self.all.y - v("shift_y")
        m, fat = v("male_shape"), v("fat")
        chin = CHIN_Y - 0.03 + 0.035 * m + 0.050 * v("AU26") + 0.012 * v("long_face") + 0.6 * v("mouth_drop")
        width = _mix(0.615, 0.655, m) + 0.035 * fat - 0.015 * v("long_face")
        middle = -0.05
        power = torch.where(y < middle, 2.3 + 0 * m, _mix(1.85, 2.55, m) + 0.35 * fat)
        reach = torch.where(y < middle, 0.90 + 0 * m, chin - middle)
        u = ((y - middle).abs() / reach).clamp(1e-4, 1)
        self.half_width = width * (1 - u**power).clamp(min=0) ** (1 / power)
        self.outline_x = v("shift_x") + self.roll * y
        slope = torch.gradient(self.half_width, spacing=canvas.pixel, dim=1)[0]
        self.steep = 1 / (1 + slope * slope).sqrt()
        self.chin, self.width = chin, width
        self.head_distance = ((self.all.x - self.outline_x).abs() - self.half_width) * self.steep
        self.on_head = self.all.inside(self.head_distance)

    def v(self, name: str) -> Tensor:
        return self.p[name].view(-1, 1, 1)

    def c(self, name: str) -> Tensor:
        return self.p[name].view(-1, 3, 1, 1)

    def local(self, w: Window, x0: float, y0: float) -> tuple[Tensor, Tensor]:
        """Coordinates of a window relative to a feature that belongs at (x0, y0)."""
        return w.x - self.feature_x - x0 - self.roll * y0, w.y - self.feature_y - y0 + self.roll * x0

    # ------------------------------------------------------------------ behind the face
    def background(self) -> None:
        soft = _field(self.p["background_noise"], self.canvas.resolution)
        light = 1 + 0.16 * soft + 0.15 * self.v("background_tilt") * self.all.y
        self.canvas.image.copy_((self.c("background") * light.unsqueeze(1)).clamp(0, 1))

    def _hair_colour(self, w: Window, level: float) -> Tensor:
        sheen = 1 + 0.10 * _bell((w.y + 0.80 + 0.1 * self.v("light_y")) / 0.16) + 0.12 * self.v("light_x") * w.x
        tone = level * sheen * (1 + self.v("strand_contrast") * w.cut(self.strands))
        return (self.c("hair") * tone.unsqueeze(1)).clamp(0, 1)

    def hair_behind(self) -> None:
        w, v = self.all, self.v
        length = _mix(-0.35, 1.15, v("hair_length"))
        wave = 0.035 * v("hair_wave") * torch.sin(w.y * 7 + 6 * v("hair_phase"))
        half = self.width + 0.05 + 0.15 * v("hair_volume") + 0.07 * v("hair_length") * _ramp((w.y + 0.6) / 1.2) + wave
        half = half - (0.10 + 0.15 * v("hair_volume")) * (1 - v("hair_length")) * _ramp((w.y - length + 0.55) / 0.55)
        round_top = (1 - (((w.y + 0.10) / 1.02).clamp(-1, 0)) ** 2).clamp(min=0) ** 0.40
        d = torch.maximum((w.x - self.outline_x).abs() - half * round_top, w.y - length - 0.06 * w.cut(self.strands))
        w.paint(w.inside(d, 1.6) * v("has_hair"), self._hair_colour(w, 0.72))

    def neck_and_clothes(self) -> None:
        w, v = self.canvas.window(-1, 1, 0.35, 1), self.v
        half = _mix(0.33, 0.45, v("male_shape")) + 0.04 * v("fat") + 0.10 * _ramp((w.y - 0.75) / 0.3)
        shadow = 0.72 + 0.16 * _ramp((w.y - self.chin + 0.02) / 0.25)
        skin = self.c("skin") * shadow.unsqueeze(1)
        w.paint(w.inside((w.x - v("shift_x")).abs() - half, 1.5), skin)
        collar = 0.94 + 0.10 * v("neckline") * _bell(w.x / 0.22) - 0.22 * (w.x.abs() - 0.45).clamp(min=0) ** 1.2
        w.paint(w.inside(collar - w.y), self.c("clothes") * (1 + 0.08 * w.cut(self.texture)).unsqueeze(1))

    # ------------------------------------------------------------------ the skin
    def head(self) -> None:
        w, v = self.all, self.v
        for side in (-1, 1):
            ear = self.canvas.window(*sorted((side * 0.50, side * 1.0)), -0.32, 0.34)
            x, y = ear.x - side * (self.width + 0.02) - v("shift_x"), ear.y - v("shift_y") + 0.0
            d = ((x / 0.085) ** 2 + (y / 0.185) ** 2).sqrt() - 1
            ear.paint(ear.inside(d * 0.1), self.c("skin") * (0.80 + 0.12 * side * v("light_x")).unsqueeze(1))
            ear.shade(0.25 * _bell((x - side * 0.01) / 0.03) * _bell(y / 0.09))
        # An egg lit from (light_x, light_y): Lambert's cosine with a soft floor.
        nx = ((w.x - self.outline_x - 0.10 * v("yaw")) / (self.half_width + 0.06)).clamp(-1, 1)
        ny = ((w.y + 0.02) / 0.98).clamp(-1, 1)
        nz = (1.02 - 0.80 * nx * nx - 0.45 * ny * ny).clamp(min=0.03).sqrt()
        light = 0.56 + 0.46 * nz + v("light_strength") * (nx * v("light_x") + ny * v("light_y"))
        light = light.clamp(0.30, 1.25) * (1 + 0.016 * self.texture * (1 + v("age")))
        # Shadows read warmer than lights on skin.
        tint = torch.tensor([0.04, 0.0, -0.03]).view(1, 3, 1, 1) * (1 - light).unsqueeze(1)
        w.paint(self.on_head, (self.c("skin") * (light.unsqueeze(1) + tint)).clamp(0, 1))
        stubble = v("stubble") * self.on_head * _ramp((w.y - 0.24 - 0.10 * w.x.abs()) / 0.22)
        w.paint(stubble * (0.75 + 0.35 * self.strands).clamp(0, 1), self.c("hair") * 0.55 + 0.10)

    def cheeks_and_age(self) -> None:
        v, smile, up = self.v, self.v("AU12"), self.v("AU6")
        for side in (-1, 1):
            w = self.canvas.window(*sorted((side * 0.02, side * 0.72)), -0.10, 0.78)
            x, y = self.local(w, 0, 0)
            x = x * side
            here = w.cut(self.on_head)
            apple = _bell((x - 0.37 - 0.02 * smile) / 0.17) * _bell((y - 0.21 + 0.06 * up + 0.02 * smile) / 0.13) * here
            w.paint(apple * (0.05 + 0.16 * up + 0.26 * v("makeup")), self.c("blush"))
            w.shade(-apple * (0.03 + 0.13 * up + 0.05 * smile))
            # The fold from the nose's wing around the mouth: deeper with a smile, a wrinkled nose and with age.
            corner = 0.27 + 0.075 * smile + 0.05 * v("AU20")
            y = y - 0.7 * v("mouth_drop")
            fold_x = 0.125 + (corner - 0.09) * ((y - 0.20) / 0.34).clamp(0, 1.15) ** 0.85
            depth = (0.72 * smile + 0.40 * v("age") + 0.45 * v("AU9") + 0.25 * up).clamp(0, 1.1)
            reach = _ramp((y - 0.17) / 0.08) * _ramp((0.60 - 0.05 * smile - y) / 0.16)
            w.shade(0.22 * depth * _bell((x - fold_x) / 0.030) * reach * here)
            w.shade(-0.07 * depth * _bell((x - fold_x - 0.06) / 0.05) * reach * here)
            # Jowls and hollows come with age.
            w.shade(0.13 * v("age") ** 2 * _bell((x - 0.36) / 0.05) * _bell((y - 0.62) / 0.12) * here)
            w.shade(0.10 * v("age") * _bell((x - 0.45) / 0.08) * _bell((y - 0.36) / 0.14) * here)

    def nose(self) -> None:
        w, v = self.canvas.window(-0.36, 0.36, -0.28, 0.46), self.v
        wrinkle, size = v("AU9"), v("nose_size")
        x, y = self.local(w, 0, 0)
        x = x - 0.012 * v("yaw")
        wing = 0.100 + 0.068 * size + 0.012 * v("male_shape") + 0.012 * v("AU12") + 0.018 * wrinkle
        base = NOSE_Y + 0.5 * v("mouth_drop") + v("nose_length") + 0.035 * size - 0.030 * wrinkle
        lit = torch.tanh(3 * v("light_x"))
        bridge = 0.045 + 0.022 * size
        down = _ramp((y + 0.16) / 0.12) * _ramp((base + 0.02 - y) / 0.10)
        for side in (-1, 1):
            flank = _bell((x - side * (bridge + 0.16 * (y + 0.10).clamp(min=0) * wing / 0.12)) / 0.032) * down
            w.shade(flank * (0.10 - 0.09 * side * lit + 0.06 * size))
            w.shade(0.16 * _bell((x - side * 0.085) / 0.04) * _bell((y + 0.12) / 0.06))  # inner eye corner
            w.shade((0.20 + 0.12 * size) * _bell((x - side * wing) / 0.018) * _bell((y - base + 0.025) / 0.045))
            nostril = ((x - side * wing * 0.52) / (0.026 + 0.014 * size)) ** 2 + ((y - base - 0.012) / 0.018) ** 2
            w.shade(0.55 * torch.exp(-nostril))
            for k in (0, 1):  # AU 9: wrinkles run across the bridge and up its sides
                line = _bell((y + 0.06 - 0.075 * k + 0.35 * x.abs()) / 0.014) * _bell(x / (0.10 + 0.02 * k))
                w.shade(0.24 * wrinkle * line)
        w.shade(0.22 * _bell(x / (wing * 0.95)) * _bell((y - base - 0.045) / 0.030))
        w.shade(-0.13 * _bell((x + 0.012 * lit) / 0.028) * down)
        tip = _bell((x + 0.02 * lit) / (0.050 + 0.03 * size)) * _bell((y - base + 0.055) / (0.045 + 0.02 * size))
        w.shade(-(0.12 + 0.10 * size) * tip)

    # ------------------------------------------------------------------ mouth and beard
    def _mouth_lines(self, x: Tensor) -> SimpleNamespace:
        """Outer and inner edges of both lips as functions of x, relative to the mouth's rest height."""
        v = self.v
        smile, frown, part, drop = v("AU12"), v("AU15"), v("AU25"), v("AU26")
        stretch, raise_, wrinkle = v("AU20"), v("AU17"), v("AU9")
        half = 0.215 * v("mouth_width") + 0.012 * v("male_shape") + 0.085 * smile + 0.120 * stretch
        half = half - 0.045 * drop * (1 - smile)
        half = half - 0.020 * raise_ - 0.012 * frown
        t = x / half
        bow = (1 - t * t).clamp(min=0)
        tt = (t * t).clamp(max=1.3)
        lift = -0.105 * smile + 0.095 * frown + 0.050 * raise_ + 0.022 * stretch
        line = lift * tt + 0.030 * smile - 0.030 * frown - 0.060 * raise_ - 0.006
        line = line + 0.020 * v("crooked") * smile * t - 0.012 * v("crooked") * t * (1 - smile)
        gap = 0.085 * part * (0.75 + 0.35 * smile) + 0.205 * drop
        upper_in = line - (0.38 * gap + 0.018 * wrinkle) * bow
        lower_in = line + (0.62 * gap) * bow
        full, thin = v("lip_fullness"), 1 - 0.40 * smile - 0.38 * stretch
        notch = 1 - 0.20 * _bell(t / 0.20)
        upper = upper_in - (0.040 + 0.032 * full) * thin * notch * bow**0.62 - 0.012 * wrinkle * bow
        lower = lower_in + (0.052 + 0.038 * full) * (thin - 0.35 * raise_) * bow**0.72
        lips = {"upper_in": upper_in, "lower_in": lower_in, "upper": upper, "lower": lower}
        return SimpleNamespace(half=half, t=t, line=line, gap=gap, **lips)

    def mouth(self) -> None:
        w, v = self.canvas.window(-0.46, 0.46, 0.28, 0.94), self.v
        x, y = self.local(w, 0, MOUTH_Y)
        y = y - v("mouth_drop")
        x = x - 0.010 * v("yaw")
        m = self._mouth_lines(x)
        within = w.inside((m.t.abs() - 1) * m.half)
        here = w.cut(self.on_head)
        # Light from above: the lower lip casts a shadow, the chin's boss catches light.
        w.shade(0.20 * _bell((y - m.lower - 0.035) / 0.035) * _bell(x / 0.15) * here)
        boss = 0.29 + 0.03 * v("AU26")
        here = here * (1 - 0.8 * v("beard"))
        w.shade(-(0.05 + 0.07 * v("AU17")) * _bell((y - boss) / 0.06) * _bell(x / 0.13) * here)
        dimple = _bell((y - boss + 0.055) / 0.016) * _bell(x / 0.11)
        w.shade((0.42 * v("AU17") + 0.06 * v("male_shape")) * dimple * here)
        for k in (-1, 0, 1):  # AU 17: the chin's skin puckers
            w.shade(0.30 * v("AU17") * _bell((x - 0.055 * k) / 0.018) * _bell((y - boss) / 0.045) * here)
        red = self.c("lip")
        lips = w.inside(torch.maximum(m.upper - y, y - m.lower)) * within
        w.paint(lips, red * (1 - 0.16 * (y < m.line).float() + 0.05 * _bell((y - m.lower + 0.03) / 0.02)).unsqueeze(1))
        opening = w.inside(torch.maximum(m.upper_in - y, y - m.lower_in)) * within * _ramp(m.gap / 0.03)
        dark = torch.tensor([0.20, 0.05, 0.06]).view(1, 3, 1, 1)
        w.paint(opening, dark.expand(self.n, 3, 1, 1))
        tongue = opening * _ramp((y - m.lower_in + 0.085) / 0.05) * _ramp((m.gap - 0.11) / 0.08)
        w.paint(tongue * 0.75, torch.tensor([0.70, 0.30, 0.31]).view(1, 3, 1, 1))
        show = _ramp(
            (v("AU12") + 0.5 * v("AU20") + 0.55 * v("AU25") + 0.3 * v("AU26") + 0.2 * v("teeth") - 0.25) / 0.35
        )
        edge = m.upper_in + torch.minimum(0.085 + 0 * m.gap, 0.85 * m.gap)
        enamel = torch.tensor([0.95, 0.93, 0.88]).view(1, 3, 1, 1) * (1 - 0.20 * (x / 0.28) ** 2).clamp(
            0.6, 1
        ).unsqueeze(1)
        w.paint(opening * w.inside(y - edge) * show, enamel * self.v("tooth_light").unsqueeze(1))
        closed = 1 - _ramp(m.gap / 0.03)
        w.shade(0.50 * w.inside((y - m.line).abs() - 0.008, 1.3) * within * closed)
        for side in (-1, 1):
            cx, cy = side * m.half, m.line.gather(2, self._column(m.t, side))
            w.shade(
                (0.24 + 0.20 * v("AU12") + 0.12 * v("AU15")) * _bell((x - cx) / 0.026) * _bell((y - cy) / 0.026) * here
            )
            droop = 0.24 * v("AU15") + 0.12 * v("age")
            w.shade(droop * _bell((x - cx - side * 0.03) / 0.02) * _bell((y - cy - 0.06) / 0.045) * here)
            brackets = _bell((x - cx - side * 0.055) / 0.018) * _bell((y - cy) / 0.07)
            w.shade((0.20 * v("AU20") + 0.16 * v("AU12") ** 2) * brackets * here)

    @staticmethod
    def _column(t: Tensor, side: int) -> Tensor:
        """Index of the column nearest the mouth's corner (t = side), for reading the lip line there."""
        return (t - side).abs().argmin(2, keepdim=True)

    def beard(self) -> None:
        v = self.v
        w = self.canvas.window(-0.80, 0.80, 0.10, 1.0)
        x, y = self.local(w, 0, MOUTH_Y)
        y = y - v("mouth_drop")
        m = self._mouth_lines(x)
        grain = 0.10 * w.cut(self.texture) + 0.05 * w.cut(self.strands)
        hair = (self.c("hair") * (0.80 + grain + 0.10 * v("light_x") * w.x).unsqueeze(1)).clamp(0, 1)
        line = -0.10 - 0.55 * ((x.abs() - 0.16).clamp(min=0)) ** 1.5 + 0.03 * w.cut(self.strands)
        longer = 0.13 * v("beard_length") * _ramp((w.y - 0.55) / 0.3)
        jaw = w.inside(w.cut(self.head_distance) - longer, 1.5) * _ramp((y - line) / 0.10)
        bare = (1 - _bell(x / 0.19) * _bell((y - m.lower + 0.015) / 0.050)).clamp(0, 1)
        bare = bare * (1 - _bell(x / 0.24) * _bell((y - m.line) / 0.060))
        w.paint((jaw * bare * v("beard") * (0.94 + 0.12 * w.cut(self.texture))).clamp(0, 1), hair.clamp(0, 1))
        arch = m.upper - 0.036 + 0.070 * (m.t.abs() * 0.85) ** 2
        d = (y - arch).abs() - 0.042 * (1 - 0.45 * m.t.abs()).clamp(min=0)
        w.paint(w.inside(d, 1.6) * _ramp((1.30 - m.t.abs()) / 0.25) * v("mustache"), (hair * 0.95).clamp(0, 1))

    # ------------------------------------------------------------------ eyes and brows
    def _eye_window(self, side: int) -> Window:
        return self.canvas.window(*sorted((side * 0.02, side * 0.66)), -0.56, 0.16)

    def eye(self, side: int) -> None:
        w, v = self._eye_window(side), self.v
        x, y = self.local(w, side * EYE_X, EYE_Y)
        gaze = x - 0.030 * v("gaze")
        x = x * side  # positive towards the temple
        half = 0.138 + 0.008 * v("eye_size")
        q = (1 - (x / half) ** 2).clamp(min=0)
        opening = v("eye_opening") * (1 - v("blink"))
        slant = -0.10 * v("eye_slant") * x
        top = 0.066 * opening * (1 - 0.22 * v("AU6") - 0.10 * v("AU4")) + 0.062 * v("AU5") * (1 - v("blink"))
        top = slant - top * q**0.75 + 0.010 * v("blink")
        bottom = slant + 0.040 * opening * (1 - 0.65 * v("AU6") - 0.25 * v("AU9")) * q**0.85 + 0.010 * v("blink")
        here = w.cut(self.on_head)
        socket = _bell(x / 0.19) * _bell((y + 0.02) / 0.10) * here
        w.shade(socket * (0.11 + 0.06 * v("male_shape") + 0.05 * v("age")))
        w.paint(_bell(x / 0.17) * _bell((y + 0.075) / 0.045) * here * 0.70 * v("makeup"), self.c("shadow"))
        span = w.inside(x.abs() - half)
        eye = w.inside(torch.maximum(top - y, y - bottom)) * span
        white = torch.tensor([0.93, 0.92, 0.90]).view(1, 3, 1, 1)
        w.paint(eye, white * (1 - 0.22 * _bell((y - top) / 0.03)).unsqueeze(1))
        r2 = gaze * gaze + (y - slant + 0.010) ** 2
        r = r2.sqrt()
        w.paint(eye * w.inside(r - 0.064), self.c("eye"))
        w.paint(eye * w.inside(r - 0.030), 0.2 * self.c("eye"))
        glint = ((gaze - 0.022) ** 2 + (y - slant + 0.036) ** 2).sqrt()
        w.paint(eye * w.inside(glint - 0.014) * 0.9, white)
        lash = 0.009 + 0.017 * v("lashes")
        w.shade(0.78 * w.inside((y - top).abs() - lash) * span * here)
        wing = w.inside((y - top + 0.5 * (x - half)).abs() - 0.6 * lash) * _ramp((x - half + 0.03) / 0.02)
        w.shade(0.6 * wing * _ramp((half + 0.05 - x) / 0.03) * _ramp((v("lashes") - 0.35) / 0.3))
        w.shade(0.26 * w.inside((y - bottom).abs() - 0.006) * span * here)
        crease = _bell((y - top + 0.042 + 0.012 * v("AU5")) / 0.014) * w.inside(x.abs() - half * 0.95)
        w.shade(0.20 * crease * (1 - 0.6 * v("fold")) * (1 - 0.5 * v("AU5")) * here)
        bag = _bell((y - 0.098 + 0.028 * v("AU6") + 0.25 * x * x) / 0.022) * w.inside(x.abs() - 0.125)
        w.shade((0.16 * v("age") + 0.32 * v("AU6")).clamp(0, 0.45) * bag * here)
        for k in (-1, 0, 1):  # crow's feet
            ray = _bell((y - 0.008 - k * (0.042 + 0.30 * (x - 0.15))) / 0.011)
            fade = _ramp((x - 0.15) / 0.03) * _ramp((0.275 - x) / 0.05)
            w.shade((0.15 * v("age") ** 2 + 0.30 * v("AU6")) * ray * fade * here)

    def brow(self, side: int) -> None:
        w, v = self._eye_window(side), self.v
        x, y = self.local(w, side * EYE_X, EYE_Y)
        x = x * side
        frown, inner_up, outer_up = v("AU4"), v("AU1"), v("AU2")
        s = (x + 0.045 * frown) / 0.195
        inner = ((1 - s) / 2).clamp(0, 1)
        arch = 0.030 * (1 - 0.75 * v("male_shape")) + 0.012
        height = -0.185 + v("brow_height") + 0.030 * v("male_shape") - arch * (1 - s * s) + 0.012 * s * s
        height = height - 0.095 * inner_up * inner**1.3 - 0.095 * outer_up * (1 - inner) + 0.012 * outer_up * inner
        height = height + frown * (0.030 + 0.065 * inner) + 0.030 * v("AU9") * inner
        thick = (0.016 + 0.022 * v("brow_weight")) * (1 - 0.40 * s.clamp(0, 1))
        here = w.cut(self.on_head)
        d = torch.maximum((y - height).abs() - thick, (s.abs() - 1) * 0.195)
        alpha = w.inside(d, 1.5) * here * (0.62 + 0.30 * v("brow_weight"))
        w.paint(alpha, self.c("brow_colour"))
        # A raised brow opens the lid above the eye; a lowered one hoods it.
        w.shade(-0.10 * outer_up * _bell((y + 0.16) / 0.035) * _bell((x - 0.05) / 0.12) * here)
        w.shade(0.16 * frown * _bell((y + 0.10) / 0.04) * _bell((x + 0.06) / 0.10) * here)

    def forehead(self) -> None:
        w, v = self.canvas.window(-0.50, 0.50, -0.86, -0.08), self.v
        x, y = self.local(w, 0, 0)
        here = w.cut(self.on_head)
        middle, sides = v("AU1"), v("AU2")
        for k in range(3):
            line = _bell((y + 0.44 + 0.075 * k - 0.03 * torch.cos(x * 5)) / 0.013)
            reach = (0.55 * v("age") ** 2 + 0.55 * middle) * _bell(x / 0.22) + 0.50 * sides * _bell(
                (x.abs() - 0.30) / 0.13
            )
            w.shade(0.19 * line * reach.clamp(0, 1) * here)
        for side in (-1, 1):
            furrow = _bell((x - side * (0.048 - 0.010 * v("AU4"))) / 0.015) * _bell((y + 0.275) / 0.075)
            w.shade(0.30 * (v("AU4") + 0.20 * v("age")) * furrow * here)
        w.shade(-0.05 * _bell(x / 0.30) * _bell((y + 0.52) / 0.14) * here)

    # ------------------------------------------------------------------ hair and glasses
    def hair_in_front(self) -> None:
        v = self.v
        w = self.canvas.window(-1, 1, -1, -0.16)
        x = w.x - v("shift_x")
        away = (x - 0.45 * v("parting")).abs()
        strands = w.cut(self.strands)
        swept = -0.80 - 0.12 * v("receding") + 0.34 * away**1.6 + 0.85 * (x.abs() - 0.50).clamp(min=0)
        fringe = -0.43 + 0.05 * torch.sin(x * 4 + 6 * v("hair_phase")) + 0.28 * (x.abs() - 0.48).clamp(min=0)
        hairline = _mix(swept, fringe, v("bangs")) + (0.03 + 0.05 * v("bangs")) * strands
        top = _mix(0.94, 1.06, v("hair_volume"))
        half = self.width + 0.02 + 0.10 * v("hair_volume")
        skull = half * (1 - ((w.y + 0.05) / top).clamp(-1, 0) ** 2).clamp(min=0) ** 0.42
        cap = torch.maximum(w.y - hairline, x.abs() - skull)
        here = v("has_hair") * w.cut(self.on_head)
        w.shade(0.20 * w.inside(cap - 0.04, 3.0) * here)
        softness = 2.0 + 2.0 * v("bangs")
        alpha = (0.5 - cap / (w.pixel * softness)).clamp(0, 1) * v("has_hair")
        w.paint(alpha, self._hair_colour(w, 0.95))
        # Locks beside the face, for long hair; sideburns for short.
        for side in (-1, 1):
            w = self.canvas.window(*sorted((side * 0.36, side * 1.0)), -0.62, 1.0)
            x = side * (w.x - self.outline_x[:, w.rows])
            y = w.y
            length = _mix(-0.16, 1.10, v("hair_length"))
            edge = self.width * (0.97 - 0.16 * v("hair_length") * v("hair_forward")) + 0.05 * _ramp((y - 0.1) / 0.6)
            edge = edge + 0.025 * v("hair_wave") * torch.sin(y * 8 + 6 * v("hair_phase"))
            outer = self.width + 0.05 + 0.15 * v("hair_volume") + 0.07 * v("hair_length")
            # Short hair hugs the skull towards its lower end; long hair falls free.
            outer = outer - (0.06 + 0.14 * v("hair_volume")) * (1 - v("hair_length")) * _ramp(
                (y - length + 0.45) / 0.45
            )
            edge = edge + 0.05 * (1 - v("hair_length")) * _ramp((y - length + 0.30) / 0.30)
            outer = outer * (1 - ((y + 0.10) / 1.02).clamp(-1, 0) ** 2) ** 0.40
            d = torch.maximum(torch.maximum(edge - x, x - outer), torch.maximum(y - length, -0.60 - y))
            d = d + 0.02 * w.cut(self.strands)
            w.shade(0.16 * w.inside(d - 0.05, 4.0) * v("has_hair") * w.cut(self.on_head))
            w.paint(w.inside(d, 2.0) * v("has_hair"), self._hair_colour(w, 0.86))
        bald = self.canvas.window(-1, 1, -1, -0.30)
        fuzz = (
            bald.cut(self.on_head)
            * _ramp(((bald.x - v("shift_x")).abs() - 0.42) / 0.12)
            * _ramp((-0.28 - bald.y) / 0.1)
        )
        bald.paint(fuzz * (1 - v("has_hair")) * v("fuzz") * 0.7, self.c("hair") * 0.9)

    def glasses(self) -> None:
        v = self.v
        frame = self.c("frame")
        for side in (-1, 1):
            w = self.canvas.window(*sorted((0.0, side * 0.78)), -0.40, 0.16)
            x, y = self.local(w, side * EYE_X, EYE_Y + 0.01)
            power = _mix(2.2, 5.0, v("frame_square"))
            a, b = (x.abs() / 0.205).clamp(min=1e-3), (y.abs() / (0.125 + 0.03 * v("frame_height"))).clamp(min=1e-3)
            d = ((a**power + b**power) ** (1 / power) - 1) * 0.15
            lens = w.inside(d) * v("glasses")
            tone = _mix(0.85, 0.08, v("sunglasses")).unsqueeze(1).expand(self.n, 3, 1, 1)
            w.paint(lens * _mix(0.05, 0.86, v("sunglasses")), tone)
            w.paint(w.inside(d.abs() - _mix(0.010, 0.024, v("frame_weight"))) * v("glasses"), frame)
            bar = torch.maximum((y + 0.03).abs() - 0.014, 0.20 - x * side)
            w.paint(w.inside(bar) * v("glasses") * w.cut(self.on_head), frame)
            bridge = torch.maximum((y + 0.035).abs() - 0.012, x * side + 0.205)
            w.paint(w.inside(bridge) * v("glasses"), frame)

    def camera(self) -> Tensor:
        v, image = self.v, self.canvas.image
        side = 1 + 0.10 * v("light_x") * self.all.x
        image = image * (side * v("exposure")).unsqueeze(1) * self.c("white_balance")
        size = max(3, 2 * round(self.canvas.resolution / 64) + 1)
        soft = F.avg_pool2d(F.pad(image, (size // 2,) * 4, mode="replicate"), size, 1)
        image = image.lerp(soft, v("blur").unsqueeze(1).expand_as(image))
        image = 0.5 + (image - 0.5) * v("contrast").unsqueeze(1)
        grain = self.p["grain"] * v("noise").unsqueeze(1)
        return (image + grain).clamp(0, 1)
