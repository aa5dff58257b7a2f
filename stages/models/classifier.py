"""The classifier: pixels in, logits over a set of anchors out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.anchors.anchor_set import AnchorSet
from stages.classes import ClassGroups, fold
from stages.errors import ComputeError, InputError, nearest
from stages.files.artifact_params import Calibration
from stages.models.embedding import Wrapped, images_for
from stages.models.frozen import device_of, inference
from stages.models.new_anchors import anchors_for_names, matching_anchors, numbered_anchors
from stages.models.origin import Origin
from stages.pixels import check_pixels, filled, to_pixels
from stages.threat import ThreatModel

GROUPS = ("novel", "seen", "val", "all")
# (done, total, what is being done)
Progress = Callable[[int, int, str], None]


class Classifier(nn.Module):
    """An embedding model with anchors as its classification head: logits = scale * cosine (Li et al., CVPR 2024, Sec. 3.3).

    Pixels are float in [0, 1] or uint8, shape (N, 3, H, W); normalization is part of the embedding model. `forward` and `embed`
    check the pixels; `scores`, for attacks and export, does not.

    Args:
        embedding: any module, images (N, 3, H, W) in [0, 1] -> embeddings (N, D).
        anchors: an `AnchorSet` or unit rows (C, D); or several heads (H, K, D), see `head`.
        logit_scale: 1 / tau.
        threat: the threat model of training, or None.
        image_size: side of the images; None for any.
        origin: see `Origin`.
        trained: the anchors of training, if they differ from `anchors`.
        head: (P,) int64, the index of the head of each sample.
        calibration: temperature and seen-class bias for `probabilities`; logits and predictions do not depend on it.
        bias: subtracted from the cosines of the seen classes, see `with_bias`.
        closed: the embeddings are the logits of a closed set of classes: they are not normalized, and the anchors are rows of
            the identity, which pick columns. New classes and support images are refused.

    Attributes:
        anchors: (C, D) or (H, K, D), on the model's device.
        anchor_set: the anchors with names and groups; of several heads the first.
        trained: the anchors of training.
        known: the anchors of all classes that `over` selects by name.
    """

    anchors: Tensor
    _head: Tensor | None
    _seen: Tensor

    def __init__(
        self,
        embedding: nn.Module,
        anchors: AnchorSet | Tensor,
        *,
        logit_scale: float = 1.0,
        threat: ThreatModel | None = None,
        image_size: int | None = None,
        origin: Origin | None = None,
        trained: AnchorSet | None = None,
        head: Tensor | None = None,
        calibration: Calibration | None = None,
        bias: float = 0.0,
        closed: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        vectors = torch.from_numpy(anchors.vectors.copy()) if isinstance(anchors, AnchorSet) else anchors
        vectors = vectors.to(device_of(embedding, vectors.device), torch.float32)
        self.register_buffer("anchors", vectors, persistent=False)
        self.register_buffer("_head", None if head is None else head.to(vectors.device), persistent=False)
        self.anchor_set = anchors if isinstance(anchors, AnchorSet) else numbered_anchors(vectors.detach().cpu().numpy())
        seen = torch.zeros(vectors.shape[-2], device=vectors.device)
        seen[list(self.anchor_set.groups.seen) if isinstance(anchors, AnchorSet) else []] = 1
        self.register_buffer("_seen", seen, persistent=False)
        self.logit_scale, self.threat, self.image_size = logit_scale, threat, image_size
        self.calibration, self.bias = calibration, bias
        self.origin, self.closed = origin or Origin(), closed
        self.trained = trained or self.anchor_set
        self.known = self.anchor_set

    @property
    def classes(self) -> tuple[str, ...]:
        """The C class names, in the order of the logits."""
        return self.anchor_set.classes

    @property
    def groups(self) -> ClassGroups:
        """The seen, validation and novel classes."""
        return self.anchor_set.groups

    @property
    def device(self) -> torch.device:
        """The device of the anchors."""
        return self.anchors.device

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W), uint8 or float in [0, 1] -> logits (N, C). Raises InputError for other pixels."""
        return self.logits(self.embed(x))

    def embed(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W), uint8 or float in [0, 1] -> embeddings (N, D) as of `unit`. Raises InputError for others."""
        if not torch.compiler.is_compiling():  # a check of values would break the graph
            check_pixels(x)
        dtype = next((p.dtype for p in self.embedding.parameters() if p.is_floating_point()), torch.float32)
        pixels = x.to(self.device, dtype)
        pixels = pixels / 255 if x.dtype == torch.uint8 else pixels
        return self.unit(self.embedding(images_for(self.embedding, pixels)))

    def unit(self, raw: Tensor) -> Tensor:
        """The outputs of the embedding model (N, D) with unit length, unless `takes_as_is`, in float32 at least."""
        return exact(raw) if self.takes_as_is else unit(raw)

    @property
    def takes_as_is(self) -> bool:
        """Whether the outputs of the embedding model are not normalized."""
        return self.closed or (isinstance(self.embedding, Wrapped) and self.embedding.as_is)

    def logits(self, embeddings: Tensor, rows: Tensor | None = None) -> Tensor:
        """Embeddings as of `unit` (N, D) -> logits (N, C); `rows` (N,) are the samples, if each has its own head.

        Raises InputError for embeddings of another width than the anchors.
        """
        if embeddings.shape[-1] != self.anchors.shape[-1]:
            raise _other_width(self, embeddings.shape[-1])
        anchors = self.anchors.to(embeddings.dtype)
        if anchors.ndim == 2:
            logits = self.logit_scale * (embeddings @ anchors.T)
            return logits - self._offset(self.bias) if self.bias else logits
        head = torch.arange(len(embeddings), device=self.device) if rows is None else rows
        heads = anchors[head if self._head is None else self._head[head]]
        return self.logit_scale * torch.einsum("nd,nkd->nk", embeddings, heads)

    def _offset(self, bias: float) -> Tensor:
        """What `bias` takes from the logits of each class, (C,)."""
        return self.logit_scale * bias * self._seen

    def probabilities(self, logits: Tensor) -> Tensor:
        """The probability of each class, (N, C), of this classifier's logits (N, C): their softmax.

        With a calibration, the logits are divided by its temperature, after its bias was subtracted from those of the seen
        classes. The bias can change which class is first; without seen classes or without others it changes nothing.
        """
        found = self.calibration
        if found is None:
            return logits.softmax(1)
        more = 0.0 if found.bias is None else found.bias - self.bias
        return ((logits - self._offset(more)) / found.temperature).softmax(1)

    def with_bias(self, bias: float) -> Classifier:
        """The same classifier with `bias` subtracted from the cosines of its seen classes (Chao et al., ECCV 2016).

        Predictions and attacks are at this bias; nothing is copied.
        """
        return self._with(self.anchor_set, known=self.known, bias=bias)

    def scores(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """Logits (n, C) of images (n, 3, H, W) float in [0, 1] on the device, without checks; `rows` as in `logits`.

        On the CPU the logits do not depend on the batch size, bit for bit (for embeddings of at least 8 dimensions).
        """
        rows = None if rows is None else filled(rows)
        return self.logits(self.unit(self.embedding(images_for(self.embedding, filled(x)))), rows)[: len(x)]

    def over(
        self, which: str | Sequence[str] | AnchorSet | Tensor, *, head: Tensor | None = None, where: str = "the given anchors"
    ) -> Classifier:
        """The same weights with another head; nothing is copied.

        Args:
            which: a group of classes ('seen', 'val', 'novel', 'all'); class names, where new ones are encoded like the
                training anchors; an `AnchorSet`; or anchors (C, D) or (H, K, D).
            head: see `Classifier`, for anchors (H, K, D).
            where: name of the anchors in errors.

        Raises:
            InputError: a group without classes, anchors of another width, encoder or expansion.
            MissingError: new names without an available text encoder.
        """
        if isinstance(which, Tensor):
            return self._with(which, head=head)
        if isinstance(which, AnchorSet):
            return self._with(matching_anchors(which, self.trained, where))
        if isinstance(which, str):
            groups = [group for group in (("all",) if self.origin.foreign else GROUPS) if self.known.indices(group)]
            if which not in groups:
                raise InputError(f"the classifier has no {which} classes", f"choose {', '.join(groups)}, or give class names")
            return self._with(self.known.take(self.known.indices(which)), known=self.known)
        at = {fold(name): index for index, name in enumerate(self.known.classes)}
        if all(fold(name) in at for name in which):
            return self._with(self.known.take([at[fold(name)] for name in which]), known=self.known)
        if self.closed:
            raise _not_in_closed_set(self.known.classes, which, where)
        return self._with(anchors_for_names(self.trained, which, str(self.device), where))

    @property
    def has_new_classes(self) -> bool:
        """Whether the classes were added after training."""
        return self.known is not self.trained

    def _with(
        self,
        anchors: AnchorSet | Tensor,
        *,
        head: Tensor | None = None,
        known: AnchorSet | None = None,
        bias: float | None = None,
    ) -> Classifier:
        made = Classifier(
            self.embedding,
            anchors,
            logit_scale=self.logit_scale,
            threat=self.threat,
            image_size=self.image_size,
            origin=self.origin,
            trained=self.trained,
            head=head,
            calibration=self.calibration,
            bias=self.bias if bias is None else bias,
            closed=self.closed,
        )
        made.known = known or made.anchor_set
        return made.train(self.training)


def exact(values: Tensor) -> Tensor:
    """`values` in float32 at least."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def unit(embeddings: Tensor) -> Tensor:
    """Embeddings (N, D) divided by their L2 norms, in float32 at least."""
    return F.normalize(exact(embeddings), dim=1)


def decide(logits: Tensor) -> Tensor:
    """The predicted class of each row, (n, C) -> (n,). Raises ComputeError for a non-finite logit."""
    finite = logits.isfinite().all(1)
    if not bool(finite.all()):
        raise ComputeError(
            f"the model's output is not finite for {int((~finite).sum())} of the {len(finite)} images of a batch",
            "check the weights of the checkpoint, and what your own module divides by",
        )
    return logits.argmax(1)


def predict(
    classifier: Classifier, images: Tensor, *, batch_size: int = 256, progress: Progress | None = None, what: str = ""
) -> Tensor:
    """The predicted class of each image, in eval mode.

    Args:
        classifier: with one head, or one for each image.
        images: (N, 3, H, W) uint8 or float in [0, 1].
        batch_size: images in one forward pass.
        progress: called after every batch with (images done, total, `what`).

    Returns:
        (N,) int64, on the CPU.

    Raises:
        InputError: other pixels, or anchors of another width than the embeddings.
        ComputeError: non-finite outputs.
    """
    check_pixels(images)
    found = torch.empty(len(images), dtype=torch.int64)
    with inference(classifier):
        for rows in torch.arange(len(images)).split(batch_size):
            at = rows.to(classifier.device)
            found[rows] = decide(classifier.scores(to_pixels(images, rows, at.device), at)).cpu()
            if progress is not None:
                progress(int(rows[-1]) + 1, len(images), what)
    return found


def _other_width(classifier: Classifier, found: int) -> InputError:
    width = classifier.anchors.shape[-1]
    if classifier.closed:
        return InputError(f"the model has {found} outputs and {width} class names", "name each output, in order")
    return InputError(
        f"the anchors have width {width}, the model's embeddings {found}",
        "use the anchors that the model was trained with, or anchors of the same text encoder",
    )


def _not_in_closed_set(known: Sequence[str], wanted: Sequence[str], where: str) -> InputError:
    odd = next(name for name in wanted if fold(name) not in {fold(one) for one in known})
    return InputError(
        f"the model has no class '{odd}' ({where}): it is a classifier of {len(known)} fixed classes",
        f"choose among its classes; nearest: {nearest(odd, known)}",
    )
