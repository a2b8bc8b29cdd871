"""Paint the heads of cats and dogs from named numbers, with the same brushes as :mod:`diga_lib.data.painter`.

The canvas is [-1, 1] x [-1, 1] with y pointing down, and the eyes lie near ``(+-EYE_X, EYE_Y)``. Whatever tells a
cat from a dog (ears, muzzle, nose, eyes, cheeks, whiskers) is a number that both kinds share: only
:mod:`diga_lib.data.critters` decides which numbers are drawn; nothing here is random.
"""

import torch
from torch import Tensor

from diga_lib.data.painter import Canvas, Window, _bell, _field, _mix, _ramp
from diga_lib.data.painter import _Face as Face

EYE_X, EYE_Y = 0.27, -0.12
DARK, WHITE = (0.09, 0.06, 0.06), (0.96, 0.95, 0.92)


def paint(p: dict[str, Tensor], resolution: int = 64) -> Tensor:
    """Paint a batch of critters, float32 (N, 3, resolution, resolution) in [0, 1].

    `p` is as made by :func:`diga_lib.data.critters.parameters`: scalars (N,), colours (N, 3), noise grids (N, h, w).
    """
    critter = _Critter(p, Canvas(len(p["droop"]), resolution))
    critter.background()
    critter.chest()
    critter.ears(front=False)
    critter.head()
    critter.markings()
    critter.ears(front=True)
    for side in (-1, 1):
        critter.eye(side)
    critter.muzzle()
    critter.mouth()
    critter.nose()
    critter.whiskers()
    return critter.camera()


class _Critter(Face):
    """One batch in the making; background and camera, the parameters' access and the pose are those of a face."""

    def __init__(self, p: dict[str, Tensor], canvas: Canvas):
        self.p, self.canvas, self.n = p, canvas, len(p["droop"])
        self.texture = _field(p["coat_noise"], canvas.resolution)
        self.strands = _field(p["strand_noise"], canvas.resolution)
        self.all = canvas.window(-1, 1, -1, 1)
        v = self.v
        self.feature_x = v("shift_x") + 0.06 * v("yaw")
        self.feature_y = v("shift_y") + 0.03 * v("pitch")
        self.roll = v("roll")
        # The head's outline: wide cheeks low on the head or a taper to the muzzle, and tufts of fur at the cheeks.
        y = self.all.y - v("shift_y")
        middle, top = 0.02, 0.68
        chin = _mix(0.60, 0.74, v("muzzle")) + 0.02 * v("jaw")
        reach = torch.where(y < middle, top + 0 * chin, chin - middle)
        power = torch.where(y < middle, _mix(2.5, 2.1, v("dome")), _mix(1.55, 2.3, v("cheeks")))
        u = ((y - middle).abs() / reach).clamp(1e-4, 1)
        width = _mix(0.54, 0.67, v("cheeks"))
        self.half_width = width * (1 - u**power).clamp(min=0) ** (1 / power)
        tuft = _bell((y - 0.30) / 0.20) * (0.05 * v("fluff") + 0.035 * v("fluff") * self.strands)
        self.half_width = self.half_width + tuft * (self.half_width > 0.05)
        self.outline_x = v("shift_x") + self.roll * y
        slope = torch.gradient(self.half_width, spacing=canvas.pixel, dim=1)[0]
        steep = 1 / (1 + slope * slope).sqrt()
        self.width, self.chin = width, chin
        self.half_width = torch.where(u < 1, self.half_width, -0.1)  # no hair's breadth of a head above and below it
        self.on_head = self.all.inside(((self.all.x - self.outline_x).abs() - self.half_width) * steep, 1.4)

    def tone(self, values: tuple) -> Tensor:
        return torch.tensor(values).view(1, 3, 1, 1)

    def fur(self, w: Window, level, colour: str = "fur") -> Tensor:
        """The coat's colour under the light, with the grain of the hairs."""
        light = 1 + 0.20 * self.v("light_x") * w.x * self.v("light_strength") * 4 - 0.10 * w.y
        grain = 1 + self.v("grain_strength") * (w.cut(self.strands) + 0.6 * w.cut(self.texture))
        return (self.c(colour) * (level * light * grain).unsqueeze(1)).clamp(0, 1)

    # ------------------------------------------------------------------ behind the face
    def chest(self) -> None:
        w, v = self.canvas.window(-1, 1, 0.30, 1), self.v
        x = w.x - 1.4 * v("shift_x")
        half = _mix(0.42, 0.56, v("cheeks")) + 0.30 * _ramp((w.y - 0.55) / 0.6) + 0.03 * w.cut(self.strands)
        body = w.inside(x.abs() - half, 2.0)
        w.paint(body, self.fur(w, 0.80))
        bib = w.inside((x / 0.28) ** 2 * 0.3 + 0.70 - w.y + 0.05 * w.cut(self.strands), 4.0) * body * v("bib")
        w.paint(bib, self.fur(w, 0.92, "second"))
        w.shade(0.30 * body * _ramp((self.chin + 0.20 - w.y) / 0.25))
        line = w.y - 0.86 + 0.20 * (x / 0.6) ** 2
        w.paint(w.inside(line.abs() - 0.050) * body * v("collar"), self.c("collar_colour"))
        tag = (x * x + (line - 0.085) ** 2).sqrt() - 0.055
        w.paint(w.inside(tag) * v("collar") * v("tag"), self.tone((0.85, 0.72, 0.32)).expand(self.n, 3, 1, 1))

    def ears(self, front: bool) -> None:
        """Upright ears lie behind the head, hanging ones before it: one shape whose tip swings round its root."""
        v = self.v
        droop = v("droop")
        here = _ramp((droop - 0.45) / 0.12)
        here = here if front else 1 - here
        for side in (-1, 1):
            w = self.canvas.window(*sorted((side * 0.02, side * 1.0)), -1.0, 0.62)
            root_x = self.width * _mix(0.60, 0.86, droop) + 0.05 * v("ear_spread")
            root_y = _mix(-0.42, -0.40, droop)
            swing = _mix(0.18, 2.95, droop) + 0.25 * v("ear_spread") * (1 - droop) + 0.10 * side * v("ear_uneven")
            length = _mix(0.46, 0.66, droop) * _mix(0.85, 1.20, v("ear_size"))
            x = (w.x - v("shift_x") - self.roll * -0.5) * side - root_x
            y = w.y - v("shift_y") - root_y + self.roll * side * root_x
            ax, ay = torch.sin(swing), -torch.cos(swing)
            along = (x * ax + y * ay) / length
            t = along.clamp(0, 1)
            across = x * -ay + y * ax - 0.20 * droop * t * (1 - t)
            # A triangle when upright, a hanging leaf when it droops.
            pointed = _mix(0.245, 0.0, t)
            leaf = 0.135 + 0.14 * t * (1 - 0.5 * t) - 0.05 * t**4
            wide = _mix(pointed, leaf, _ramp((droop - 0.15) / 0.5)) * _mix(0.88, 1.15, v("ear_size"))
            over = (along - t) * length
            d = torch.where(over.abs() > 0, (across**2 + over**2).sqrt(), across.abs()) - wide
            ear = w.inside(d, 1.4) * here
            if front:
                w.shade(0.30 * w.inside(d - 0.035, 4.0) * here * w.cut(self.on_head))
            w.paint(ear, self.fur(w, _mix(0.86, 0.80, droop), "ear"))
            if not front:
                inner = w.inside(d + 0.085, 2.0) * here * _ramp((0.9 - t) / 0.3) * (1 - 0.6 * droop)
                w.paint(inner * 0.75, self.c("inner_ear"))
            else:
                w.shade(0.22 * ear * _bell((d + 0.02) / 0.03))

    # ------------------------------------------------------------------ the coat
    def head(self) -> None:
        w, v = self.all, self.v
        nx = ((w.x - self.outline_x - 0.10 * v("yaw")) / (self.half_width.clamp(min=0) + 0.06)).clamp(-1, 1)
        ny = ((w.y + 0.02) / 0.75).clamp(-1, 1)
        nz = (1.02 - 0.80 * nx * nx - 0.40 * ny * ny).clamp(min=0.03).sqrt()
        light = 0.64 + 0.40 * nz + v("light_strength") * (nx * v("light_x") + ny * v("light_y"))
        w.paint(self.on_head, self.fur(w, light.clamp(0.3, 1.25)))

    def markings(self) -> None:
        w, v = self.canvas.window(-0.80, 0.80, -0.75, 0.80), self.v
        x, y = self.local(w, 0, 0)
        here = w.cut(self.on_head)
        # Tabby or brindle: bars on the forehead and the cheeks.
        bars = _ramp(torch.sin(x * 21) * 0.9 + 0.1) * _ramp((-0.22 - y) / 0.15) * _bell(x / 0.30)
        cheek = _ramp(torch.sin(y * 17 - x.abs() * 9) * 0.9) * _ramp((x.abs() - 0.30) / 0.12) * _ramp((y + 0.15) / 0.1)
        w.shade(v("stripes") * (0.42 * bars + 0.36 * cheek) * here)
        # Patches of the second colour: large blots, one eye, a blaze down the forehead.
        blot = _ramp((w.cut(self.texture).abs() - 0.75) / 0.25) * v("blots")
        eye = _bell((x - v("patch_side") * EYE_X) / 0.24) * _bell((y - EYE_Y) / 0.24)
        eye = _ramp((eye - 0.35) / 0.15) * v("eye_patch")
        blaze = w.inside(x.abs() - 0.05 - 0.10 * _ramp((y + 0.45) / 0.7), 2.5) * _ramp((y + 0.62) / 0.2) * v("blaze")
        for mark in (blot, eye, blaze):
            w.paint((mark * here).clamp(0, 1), self.fur(w, 0.96, "second"))
        for side in (-1, 1):  # the socket, and dots above the eyes
            socket = _bell((x - side * EYE_X) / 0.17) * _bell((y - EYE_Y) / 0.13)
            w.shade(0.16 * socket * here)
            dot = _bell((x - side * EYE_X * 0.85) / 0.075) * _bell((y - EYE_Y + 0.20) / 0.055) * v("brow_dots")
            w.paint((0.75 * dot * here).clamp(0, 1), self.fur(w, 1.0, "second"))
        w.shade(0.10 * _bell(x / 0.05) * _ramp((y + 0.55) / 0.2) * _ramp((0.10 - y) / 0.2) * v("furrow") * here)

    # ------------------------------------------------------------------ features
    def eye(self, side: int) -> None:
        w, v = self.canvas.window(*sorted((side * 0.02, side * 0.56)), -0.42, 0.18), self.v
        x, y = self.local(w, side * (EYE_X + v("eye_apart")), EYE_Y)
        gaze = x - 0.02 * v("gaze")
        x = x * side
        big = v("eye_size")
        half = _mix(0.088, 0.145, big)
        slant = y + _mix(0.0, 0.28, v("eye_slant")) * x
        lid = _mix(0.066, 0.118, big) * v("eye_opening")
        d = ((x / half) ** 2 + (slant / lid) ** 2).sqrt() - 1
        d = d * lid
        w.paint(w.inside(d - 0.024, 1.2), self.tone(DARK).expand(self.n, 3, 1, 1))
        eye = w.inside(d)
        iris = self.c("eye") * (1 - 0.25 * _bell((slant + lid) / 0.05)).unsqueeze(1)
        w.paint(eye, iris)
        pupil = ((gaze / _mix(0.020, 0.066, v("pupil"))) ** 2 + (y / _mix(0.085, 0.070, v("pupil"))) ** 2).sqrt() - 1
        w.paint(eye * w.inside(pupil * 0.05), self.tone((0.03, 0.03, 0.03)).expand(self.n, 3, 1, 1))
        glint = ((gaze - 0.026) ** 2 + (y + 0.034) ** 2).sqrt() - 0.020
        w.paint(eye * w.inside(glint), self.tone(WHITE).expand(self.n, 3, 1, 1))

    def _muzzle_shape(self, x: Tensor, y: Tensor) -> Tensor:
        """Signed distance: two round pads side by side that grow into one long snout."""
        m = self.v("muzzle")
        centre = _mix(0.30, 0.37, m)
        one = ((x / _mix(0.22, 0.33, m)) ** 2 + ((y - centre) / _mix(0.15, 0.36, m)) ** 2).sqrt() - 1
        pads = (((x.abs() - 0.11) / 0.15) ** 2 + ((y - 0.31) / 0.125) ** 2).sqrt() - 1
        return _mix(pads * 0.14, one * 0.22, _ramp(m * 1.4))

    def muzzle(self) -> None:
        w, v = self.canvas.window(-0.56, 0.56, -0.10, 0.92), self.v
        x, y = self.local(w, 0, 0)
        x = x - 0.03 * v("yaw") * v("muzzle")
        m = v("muzzle")
        d = self._muzzle_shape(x, y)
        under = w.inside(d - 0.02 - 0.02 * m, 4.0)
        w.shade(0.20 * under * (0.4 + 0.6 * m))
        snout = w.inside(d, 2.2)
        w.paint(snout * 0.92, self.fur(w, 0.99 - 0.14 * _ramp((y - 0.40) / 0.3), "snout"))
        # The bridge from between the eyes to the nose stands out on a long snout.
        bridge = _bell(x / _mix(0.09, 0.13, m)) * _ramp((y + 0.10) / 0.15) * _ramp((0.28 - y) / 0.1)
        w.shade(-0.12 * bridge * m)
        for side in (-1, 1):
            edge = _bell((x - side * _mix(0.12, 0.19, m)) / 0.045) * _ramp((y + 0.06) / 0.12) * _ramp((0.26 - y) / 0.10)
            w.shade((0.05 + 0.17 * m) * edge)

    def mouth(self) -> None:
        w, v = self.canvas.window(-0.42, 0.42, 0.10, 0.98), self.v
        x, y = self.local(w, 0, 0)
        x = x - 0.03 * v("yaw") * v("muzzle")
        m, open_ = v("muzzle"), v("tongue")
        nose_y = _mix(0.20, 0.25, m)
        line = _mix(0.355, 0.50, m)
        half = _mix(0.15, 0.24, m)
        t = (x.abs() / half).clamp(max=1.2)
        curve = line + _mix(0.045, 0.06, m) * torch.sin(t * 2.6)
        inside = w.inside(x.abs() - half)
        # An open mouth with the tongue out, below the lip line.
        drop = open_ * _mix(0.14, 0.24, m) * (1 - (x / (half * 0.80)) ** 2).clamp(min=0) ** 0.5
        gape = w.inside(torch.maximum(curve - 0.01 - y, y - curve - drop)) * inside * (open_ > 0)
        w.paint(gape, self.tone((0.25, 0.07, 0.08)).expand(self.n, 3, 1, 1))
        long = open_ * _mix(0.17, 0.31, m)
        body = (
            ((x - 0.02 * v("gaze")) / (half * 0.46)) ** 4 + (((y - curve) - long / 2) / (long / 2 + 1e-3)) ** 4
        ) ** 0.25 - 1
        tongue = w.inside(body * 0.07, 1.2) * (open_ > 0) * _ramp((y - curve) / 0.04)
        w.paint(tongue, self.tone((0.88, 0.44, 0.47)).expand(self.n, 3, 1, 1))
        w.shade(0.25 * tongue * _bell(x / 0.016))
        w.shade(_mix(0.62, 0.70, m) * w.inside((y - curve).abs() - 0.012, 1.3) * inside)
        split = w.inside(x.abs() - 0.010, 1.2) * _ramp((y - nose_y) / 0.02) * _ramp((line + 0.01 - y) / 0.02)
        w.shade(0.60 * split)

    def nose(self) -> None:
        w, v = self.canvas.window(-0.30, 0.30, 0.02, 0.48), self.v
        size = v("nose_size")
        x, y = self.local(w, 0, _mix(0.20, 0.25, v("muzzle")))
        x = x - 0.03 * v("yaw") * v("muzzle")
        half, tall = _mix(0.070, 0.165, size), _mix(0.048, 0.105, size)
        narrow = half * (1 - 0.55 * _ramp((y + 0.4 * tall) / (1.6 * tall)))
        d = (((x / narrow).abs() + 1e-3) ** 2.5 + ((y / tall).abs() + 1e-3) ** 2.5) ** 0.4 - 1
        w.paint(w.inside(d * tall, 1.2), self.c("nose"))
        w.shade(-0.55 * _bell(x / (half * 0.45)) * _bell((y + 0.5 * tall) / 0.022) * w.inside(d * tall))
        for side in (-1, 1):
            nostril = torch.exp(
                -(((x - side * half * 0.45) / (0.20 * half + 0.008)) ** 2) - ((y - 0.1 * tall) / (0.3 * tall)) ** 2
            )
            w.shade(0.6 * nostril * w.inside(d * tall))

    def whiskers(self) -> None:
        v = self.v
        for side in (-1, 1):
            w = self.canvas.window(*sorted((side * 0.08, side * 0.98)), 0.08, 0.66)
            x, y = self.local(w, side * 0.12, 0.33)
            x = x * side
            for k in (-1, 0, 1):
                bent = y - 0.035 * k - x * (0.20 * k + 0.10 * v("whisker_tilt")) - 0.12 * x * x
                line = w.inside(bent.abs() - 0.004, 1.1) * _ramp(x / 0.08) * _ramp((v("whisker_length") - x) / 0.2)
                w.paint((line * v("whiskers")).clamp(0, 1), self.c("whisker_colour"))
