"""Write the pictures of this folder: one new image of six novel classes, from a seed that no bundled split uses."""

from pathlib import Path

from PIL import Image

from stages.data.shapes import render_split, shape_classes

SEED = 2026
CLASSES = ("red circle", "green square", "blue triangle", "yellow star", "magenta circle", "white crescent")

images, labels = render_split("test", seed=SEED, per_class=1)
folder = Path(__file__).with_name("pictures")
folder.mkdir(exist_ok=True)
for label, pixels in zip(labels, images, strict=True):
    name = shape_classes()[label]
    if name in CLASSES:
        Image.fromarray(pixels.transpose(1, 2, 0)).save(folder / f"{name.replace(' ', '-')}.png")
