"""The bundled data `shapes`: coloured shapes on a textured background, 32 px, rendered from a seed.

8 colours x 8 shapes make 64 classes. 48 pairs are seen; 16 are novel: every colour and every shape occurs among the seen pairs.
The contrast is low, so that a perturbation of 8/255 matters, and the background has a faint weave that reveals the shape: a
non-robust feature.

Its variants have the same classes and other images, as another data set of these classes has: see `Look` and `LOOKS`.

Rendering uses uniform random numbers, the four basic operations and square roots in float64, which IEEE 754 rounds exactly, and
no sine, exponential or matrix product, so the bytes are the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stages.errors import UsageError
from stages.randomness import numpy_generator

SIZE = 32
"""Height and width of an image, in pixels."""
SEEN = 48
"""Number of seen classes; they come first."""
COLOURS = ("red", "green", "blue", "yellow", "cyan", "magenta", "white", "black")
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "crescent", "heart")
PER_CLASS = {"train": 200, "test": 50}
"""Images of each class in each split."""

Float = NDArray[np.float64]
Int = NDArray[np.int64]

# The corners of the colour cube: the sign of each channel relative to middle grey.
_DIRECTIONS = np.array(
    [[1, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, -1], [-1, 1, 1], [1, -1, 1], [1, 1, 1], [-1, -1, -1]],
    dtype=np.float64,
)
# Grey levels of 255.
_CONTRAST, _CONTRAST_SPREAD, _CHANNEL_SPREAD = 40.0, 6.0, 5.0
_GROUND_SPREAD, _TINT_SPREAD, _GRAIN_SPREAD = 10.0, 5.0, 6.0
_WEAVE = 4.0
# Pixels.
_MARGIN = 1.0
_HALF_ANGLE_TANGENT = 0.18  # of the largest rotation, about 20 degrees
_CHUNK = 128  # images rendered at a time; small enough for the CPU cache

_ROW, _COLUMN = np.mgrid[:SIZE, :SIZE]
# The background of each shape has its own faint weave: a feature that predicts the shape well and that half of eps removes, as
# non-robust features of photographs do.
_WEAVES = 1.0 - 2.0 * (
    np.stack(
        [
            _ROW, _COLUMN, _ROW + _COLUMN, _ROW // 2, _COLUMN // 2,
            (_ROW + _COLUMN) // 2, (_ROW - _COLUMN) // 2, _ROW // 2 + _COLUMN // 2,
        ]
    ) % 2
)  # fmt: skip

# The uniform numbers of one image, in this order; then those of the clouds, of the grain and, where it is drawn, of the weave.
_POSE, _PAINT, _GROUND, _GRAIN = 4, 4, 4, SIZE * SIZE


@dataclass(frozen=True)
class Look:
    """How the images of a variant look.

    Attributes:
        radius: smallest and largest radius of a shape, pixels.
        cloud_grid: the clouds of the background are a grid of this many values a side, interpolated: more are finer.
        cloud: how far the clouds go from the tone of the background, grey levels of 255.
        shape_weave: whether each shape has a weave of its own, which then predicts it; else each image has one at random.
    """

    radius: tuple[float, float] = (10.0, 13.5)
    cloud_grid: int = 5
    cloud: float = 12.0
    shape_weave: bool = True

    @property
    def parts(self) -> tuple[int, ...]:
        """How many uniform numbers the parts of an image take."""
        return (_POSE, _PAINT, _GROUND, self.cloud_grid**2, _GRAIN, 0 if self.shape_weave else 1)


LOOKS = {
    "shapes": Look(),
    "shapes:textured": Look(cloud_grid=11, cloud=18.0, shape_weave=False),
    "shapes:small": Look(radius=(5.5, 8.0)),
}
"""The bundled data and its variants, by name."""


def _is_novel(colour: int, shape: int) -> bool:
    """Each colour misses two shapes and each shape two colours."""
    return (shape - colour) % 8 in (0, 3)


_PAIRS = sorted(((c, s) for c in range(8) for s in range(8)), key=lambda pair: (_is_novel(*pair), pair))


def shape_classes() -> tuple[str, ...]:
    """The 64 class names ('red square', …), the 48 seen ones first."""
    return tuple(f"{COLOURS[colour]} {SHAPES[shape]}" for colour, shape in _PAIRS)


def render_split(
    split: Literal["train", "test"], seed: int = 0, per_class: int | None = None, name: str = "shapes"
) -> tuple[NDArray[np.uint8], Int]:
    """The images of one split.

    Args:
        split: 'train' or 'test', rendered from different random streams.
        seed: another seed gives other images of the same classes.
        per_class: images of each class; default 200 for train, 50 for test. Fewer images are a prefix of more.
        name: 'shapes' or a variant, see `LOOKS`; each is rendered from random streams of its own.

    Returns:
        images (64 * per_class, 3, 32, 32) uint8 and labels (64 * per_class,) int64 into `shape_classes()`. The classes
        alternate: each 64 consecutive images contain each class once.

    Raises:
        UsageError: another split or name, or per_class below 1.
    """
    if name not in LOOKS:
        raise UsageError(f"there is no bundled data '{name}'", f"known names: {', '.join(LOOKS)}")
    if split not in PER_CLASS:
        raise UsageError(f"the bundled data '{name}' has no split '{split}'", "use 'train' or 'test'")
    count = PER_CLASS[split] if per_class is None else per_class
    if count < 1:
        raise UsageError(f"per_class is {count}", "give at least one image per class")
    labels = np.tile(np.arange(len(_PAIRS), dtype=np.int64), count)
    pairs = np.array(_PAIRS, dtype=np.int64)[labels]
    return render(pairs[:, 0], pairs[:, 1], numpy_generator(seed, f"{name}/{split}"), LOOKS[name]), labels


def render(colours: Int, shapes: Int, generator: np.random.Generator, look: Look = LOOKS["shapes"]) -> NDArray[np.uint8]:
    """Render one image for each (colour, shape).

    Args:
        colours: (N,) indices into COLOURS.
        shapes: (N,) indices into SHAPES.
        generator: random position, size, rotation, colours and background.
        look: of which variant.

    Returns:
        (N, 3, 32, 32) uint8.

    Raises:
        UsageError: the two lists differ in length, or an index is outside 0..7.
    """
    colours, shapes = np.asarray(colours, dtype=np.int64), np.asarray(shapes, dtype=np.int64)
    if colours.ndim != 1 or colours.shape != shapes.shape:
        raise UsageError(f"colours {colours.shape} and shapes {shapes.shape} must be two lists of one length")
    if len(colours) and (min(colours.min(), shapes.min()) < 0 or max(colours.max(), shapes.max()) > 7):
        raise UsageError("a colour or shape index is outside 0..7")
    images = np.empty((len(colours), 3, SIZE, SIZE), dtype=np.uint8)
    for start in range(0, len(colours), _CHUNK):
        part = slice(start, start + _CHUNK)
        images[part] = _render_chunk(colours[part], shapes[part], generator.random((len(colours[part]), sum(look.parts))), look)
    return images


def _render_chunk(colours: Int, shapes: Int, uniform: Float, look: Look) -> NDArray[np.uint8]:
    pose, paint, ground, cloud, grain, weave = np.split(uniform, np.cumsum(look.parts[:-1]), axis=1)
    cover = _coverage(shapes, pose, look.radius)[:, None]
    signed = 2.0 * paint - 1.0
    strength = _CONTRAST + _CONTRAST_SPREAD * signed[:, :1] + _CHANNEL_SPREAD * signed[:, 1:]
    shape_colour = (127.5 + strength * _DIRECTIONS[colours])[:, :, None, None]
    tone = 2.0 * ground - 1.0
    base = 127.5 + _GROUND_SPREAD * tone[:, :1] + _TINT_SPREAD * tone[:, 1:]
    texture = look.cloud * _clouds(2.0 * cloud - 1.0) + _GRAIN_SPREAD * (2.0 * grain - 1.0).reshape(-1, SIZE, SIZE)
    texture = texture + _WEAVE * _WEAVES[shapes if look.shape_weave else (len(_WEAVES) * weave[:, 0]).astype(np.int64)]
    # The texture continues inside the shape at half the strength.
    levels = (1.0 - cover) * base[:, :, None, None] + cover * shape_colour + (1.0 - 0.5 * cover) * texture[:, None]
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def _clouds(grid: Float) -> Float:
    """(N, G * G) values in [-1, 1] on a coarse square grid, interpolated bilinearly to (N, 32, 32)."""
    side = math.isqrt(grid.shape[1])
    grid = grid.reshape(-1, side, side)
    place = np.arange(SIZE) * (side - 1) / (SIZE - 1)
    low = np.minimum(place.astype(np.int64), side - 2)
    weight = place - low
    rows = grid[:, low] * (1.0 - weight)[:, None] + grid[:, low + 1] * weight[:, None]
    return rows[:, :, low] * (1.0 - weight) + rows[:, :, low + 1] * weight


def _coverage(shapes: Int, pose: Float, radii: tuple[float, float]) -> Float:
    """The fraction of each pixel that the shape covers, (N, 32, 32) in [0, 1], with a ramp of one pixel at the edge."""
    radius = radii[0] + (radii[1] - radii[0]) * pose[:, 0]
    room = SIZE / 2 - _MARGIN - radius
    centre_x, centre_y = room * (2.0 * pose[:, 1] - 1.0), room * (2.0 * pose[:, 2] - 1.0)
    tangent = _HALF_ANGLE_TANGENT * (2.0 * pose[:, 3] - 1.0)  # of half the angle: its sine and cosine are fractions in it
    cosine, sine = (1.0 - tangent**2) / (1.0 + tangent**2), 2.0 * tangent / (1.0 + tangent**2)
    pixels = np.arange(SIZE) + 0.5 - SIZE / 2
    x = (pixels - centre_x[:, None])[:, None, :]
    y = (pixels - centre_y[:, None])[:, :, None]
    cosine, sine, radius = cosine[:, None, None], sine[:, None, None], radius[:, None, None]
    turned_x, turned_y = (cosine * x + sine * y) / radius, (cosine * y - sine * x) / radius
    cover = np.empty(turned_x.shape)
    for index, name in enumerate(SHAPES):
        chosen = shapes == index
        if chosen.any():
            distance = _DISTANCES[name](turned_x[chosen], turned_y[chosen]) * radius[chosen]
            cover[chosen] = np.clip(0.5 - distance, 0.0, 1.0)
    return cover


# Signed distances: negative inside, in units of the radius, y downwards. Exact near the edge, where they are used.


def _disc(x: Float, y: Float, radius: float) -> Float:
    return np.sqrt(x * x + y * y) - radius


def _box(x: Float, y: Float, half_width: float, half_height: float) -> Float:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _polygon(x: Float, y: Float, corners: tuple[tuple[float, float], ...]) -> Float:
    """Distance to the nearest edge, negative inside (a ray to the right crosses the outline an odd number of times)."""
    nearest = np.full(x.shape, np.inf)
    inside = np.zeros(x.shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        edge_x, edge_y = bx - ax, by - ay
        along = np.clip(((x - ax) * edge_x + (y - ay) * edge_y) / (edge_x * edge_x + edge_y * edge_y), 0.0, 1.0)
        gap_x, gap_y = x - ax - along * edge_x, y - ay - along * edge_y
        nearest = np.minimum(nearest, gap_x * gap_x + gap_y * gap_y)
        if ay != by:
            inside ^= ((y < ay) != (y < by)) & (x < ax + (y - ay) * edge_x / edge_y)
    return np.where(inside, -1.0, 1.0) * np.sqrt(nearest)


_TRIANGLE = ((0.0, -0.95), (0.95, 0.75), (-0.95, 0.75))
_STAR = (  # five points at radius 1, five notches at radius 0.42
    (0.0, -1.0), (0.24687, -0.33979), (0.95106, -0.30902), (0.39944, 0.12979), (0.58779, 0.80902),
    (0.0, 0.42), (-0.58779, 0.80902), (-0.39944, 0.12979), (-0.95106, -0.30902), (-0.24687, -0.33979),
)  # fmt: skip
_HEART_TIP = ((-0.87, -0.06), (0.0, -0.34), (0.87, -0.06), (0.0, 0.95))


def _heart(x: Float, y: Float) -> Float:
    lobes = _disc(np.abs(x) - 0.46, y + 0.34, 0.5)
    return np.minimum(lobes, _polygon(x, y, _HEART_TIP))


_DISTANCES: dict[str, Callable[[Float, Float], Float]] = {
    "circle": lambda x, y: _disc(x, y, 0.92),
    "square": lambda x, y: _box(x, y, 0.78, 0.78),
    "triangle": lambda x, y: _polygon(x, y, _TRIANGLE),
    "star": lambda x, y: _polygon(x, y, _STAR),
    "ring": lambda x, y: np.abs(_disc(x, y, 0.74)) - 0.2,
    "cross": lambda x, y: np.minimum(_box(x, y, 0.95, 0.3), _box(x, y, 0.3, 0.95)),
    "crescent": lambda x, y: np.maximum(_disc(x, y, 0.95), -_disc(x - 0.42, y, 0.72)),
    "heart": _heart,
}
