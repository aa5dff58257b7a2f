"""Saved pictures of attacked images: one file for each image in a folder, or one sheet of the first ones."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import torch

from stages.attacks.quantize import quantize
from stages.models.classifier import Classifier
from stages.prediction.pictures import SHEET_ROWS, AttackedPicture, draw_attacked
from stages.prediction.places import is_sheet
from stages.prediction.predict import Batch, probabilities
from stages.prediction.robustness import Attacked
from stages.threat import ThreatModel

_NAME_BYTES = 200


@dataclass
class AttackedPictures:
    """Draws attacked images as they come; the attacked image is rounded to 8 bits within the threat model, as it is saved.

    Attributes:
        place: a folder, or the file of a sheet.
        threat: the threat model of the attack.
        drawn: number of images so far.
    """

    place: Path
    threat: ThreatModel
    drawn: int = 0
    _sheet: list[AttackedPicture] = field(default_factory=list)

    def wanted(self, batch: Batch) -> torch.Tensor:
        """Which images of the batch will be drawn, positions among those that could be read."""
        count = len(batch.read)
        return torch.arange(min(count, SHEET_ROWS - self.drawn) if is_sheet(self.place) else count)

    def add(self, classifier: Classifier, batch: Batch, attacked: Attacked, number: int) -> None:
        """Draw the images of a batch that are wanted; `number` is that of its first image among all inputs.

        Raises MissingError when a picture cannot be written.
        """
        chosen = self.wanted(batch)
        clean = (batch.pixels if batch.pixels.dtype == torch.uint8 else (batch.pixels * 255).round().to(torch.uint8))[chosen]
        rounded = quantize(attacked.x_adv[chosen], clean, self.threat)
        shares = (
            probabilities(classifier, rounded.to(classifier.device, torch.float32) / 255) if len(chosen) else torch.empty(0)
        )
        for at in chosen.tolist():
            prediction = batch.predictions[batch.read[at]]
            after = int(shares[at].argmax())
            picture = AttackedPicture(
                os.path.basename(prediction.path) or prediction.path,
                clean[at].permute(1, 2, 0).numpy(),
                rounded[at].permute(1, 2, 0).numpy(),
                ((prediction.name, prediction.confidence), (classifier.classes[after], float(shares[at, after]))),
            )
            self.drawn += 1
            if is_sheet(self.place):
                self._sheet.append(picture)
            else:
                draw_attacked([picture], self.threat, self.place / _file_name(number + batch.read[at] + 1, prediction.path))

    def end(self) -> None:
        """Write the sheet, if it is one."""
        if self._sheet:
            draw_attacked(self._sheet, self.threat, self.place)


def _file_name(number: int, path: str) -> str:
    """00012_photo.png for the 12th image, so that images of the same name do not meet."""
    stem = os.fsdecode(os.fsencode(Path(path).stem)[:_NAME_BYTES])
    return f"{number:05}_{stem}.png"
