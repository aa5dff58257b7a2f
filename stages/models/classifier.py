"""The classifier: pixels in, logits over a set of anchors out. Attacks, evaluation and export all work on this object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.anchors.anchor_set import AnchorSet
from stages.classes import ClassGroups, fold
from stages.errors import ComputeError, InputError
from stages.models.embedding import images_for
from stages.models.new_anchors import anchors_for_names, matching_anchors
from stages.models.pixels import check_pixels, filled, to_pixels
from stages.threat import ThreatModel

GROUPS = ("novel", "seen", "val", "all")
# (images done, images in total, what is being done)
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Origin:
    """Where a classifier came from.

    Attributes:
        training: settings, data and selection of the training run; JSON-able, empty when unknown.
        inputs: lineage of the artifacts it was made from.
        sha256: of the checkpoint file; empty when it was not read from one.
    """

    training: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""


class Classifier(nn.Module):
    """An embedding model with anchors as its classification head: logits = scale * cosine (Li et al., CVPR 2024, Sec. 3.3).

    Pixels are float in [0, 1] or uint8, shape (N, 3, H, W); normalisation belongs into the embedding model. `forward` and
    `embed` check the pixels; `scores` does not, for attacks and for export.

    Args:
        embedding: any module, images (N, 3, H, W) in [0, 1] -> embeddings (N, D).
        anchors: the head: an `AnchorSet`, or unit rows (C, D); or (H, K, D), several heads of K rows, see `head`.
        logit_scale: 1 / tau.
        threat: the threat model that it was trained under; None for a model trained without attack, or unknown.
        image_size: side of the images that it takes; None for any.
        origin: where it came from.
        trained: the anchors that it was trained with, where `anchors` are others.
        head: (P,) int64, which of several heads judges each sample.

    Attributes:
        anchors: (C, D) or (H, K, D), on the model's device.
        anchor_set: the same with names and groups; of several heads the first.
        trained: the anchors that it was trained with.
        known: the anchors of all classes that `over` selects by name.
    """

    anchors: Tensor
    _head: Tensor | None

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
    ) -> None:
        super().__init__()
        self.embedding = embedding
        vectors = torch.from_numpy(anchors.vectors.copy()) if isinstance(anchors, AnchorSet) else anchors
        vectors = vectors.to(_device(embedding, vectors.device), torch.float32)
        self.register_buffer("anchors", vectors, persistent=False)
        self.register_buffer("_head", None if head is None else head.to(vectors.device), persistent=False)
        self.anchor_set = anchors if isinstance(anchors, AnchorSet) else _numbered(vectors)
        self.logit_scale, self.threat, self.image_size = logit_scale, threat, image_size
        self.origin = origin or Origin()
        self.trained = trained or self.anchor_set
        self.known = self.anchor_set

    @property
    def classes(self) -> tuple[str, ...]:
        """The C class names, in the order of the logits."""
        return self.anchor_set.classes

    @property
    def groups(self) -> ClassGroups:
        """Which of the classes are seen, validation and novel."""
        return self.anchor_set.groups

    @property
    def device(self) -> torch.device:
        """Where the classifier is."""
        return self.anchors.device

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W), uint8 or float in [0, 1] -> logits (N, C). Raises InputError for other pixels."""
        return self.logits(self.embed(x))

    def embed(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W), uint8 or float in [0, 1] -> unit embeddings (N, D). Raises InputError for other pixels."""
        if not torch.compiler.is_compiling():  # a check of values would break the graph
            check_pixels(x)
        dtype = next((p.dtype for p in self.embedding.parameters() if p.is_floating_point()), torch.float32)
        pixels = x.to(self.device, dtype)
        pixels = pixels / 255 if x.dtype == torch.uint8 else pixels
        return unit(self.embedding(images_for(self.embedding, pixels)))

    def logits(self, embeddings: Tensor, rows: Tensor | None = None) -> Tensor:
        """Unit embeddings (N, D) -> logits (N, C); `rows` (N,) says which samples they are, where each has its own head.

        Raises InputError for embeddings of another width than the anchors.
        """
        if embeddings.shape[-1] != self.anchors.shape[-1]:
            raise InputError(
                f"the anchors have width {self.anchors.shape[-1]}, the model's embeddings {embeddings.shape[-1]}",
                "use the anchors that the model was trained with, or anchors of the same text encoder",
            )
        anchors = self.anchors.to(embeddings.dtype)
        if anchors.ndim == 2:
            return self.logit_scale * (embeddings @ anchors.T)
        head = torch.arange(len(embeddings), device=self.device) if rows is None else rows
        heads = anchors[head if self._head is None else self._head[head]]
        return self.logit_scale * torch.einsum("nd,nkd->nk", embeddings, heads)

    def scores(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """Logits (n, C) of images (n, 3, H, W) float in [0, 1] on the device; nothing is checked, `rows` as in `logits`.

        On the CPU an image has the same logits, to the last bit, in a batch of any size (embeddings of at least 8 dimensions).
        """
        rows = None if rows is None else filled(rows)
        return self.logits(unit(self.embedding(images_for(self.embedding, filled(x)))), rows)[: len(x)]

    def over(
        self,
        which: str | Sequence[str] | AnchorSet | Tensor,
        *,
        head: Tensor | None = None,
        where: str = "the given anchors",
    ) -> Classifier:
        """The same weights with another head; nothing is copied.

        Args:
            which: a group of its classes ('seen', 'val', 'novel', 'all'); class names, known ones or new ones, which are
                encoded as the training anchors were; an `AnchorSet`; or anchors (C, D) or (H, K, D).
            head: see `Classifier`, for anchors (H, K, D).
            where: what errors call the anchors or names.

        Raises:
            InputError: a group without classes, anchors of another width, encoder or expansion.
            MissingError: new names, and the text encoder is not available.
        """
        if isinstance(which, Tensor):
            return self._with(which, head=head)
        if isinstance(which, AnchorSet):
            return self._with(matching_anchors(which, self.trained, where))
        if isinstance(which, str):
            indices = self.known.indices(which) if which in GROUPS else []
            if not indices:
                raise InputError(f"the classifier has no {which} classes", f"choose {', '.join(GROUPS)}, or give class names")
            return self._with(self.known.take(indices), known=self.known)
        at = {fold(name): index for index, name in enumerate(self.known.classes)}
        if all(fold(name) in at for name in which):
            return self._with(self.known.take([at[fold(name)] for name in which]), known=self.known)
        return self._with(anchors_for_names(self.trained, which, str(self.device), where))

    @property
    def has_new_classes(self) -> bool:
        """Whether its classes were named after training."""
        return self.known is not self.trained

    def _with(self, anchors: AnchorSet | Tensor, *, head: Tensor | None = None, known: AnchorSet | None = None) -> Classifier:
        made = Classifier(
            self.embedding,
            anchors,
            logit_scale=self.logit_scale,
            threat=self.threat,
            image_size=self.image_size,
            origin=self.origin,
            trained=self.trained,
            head=head,
        )
        made.known = known or made.anchor_set
        return made.train(self.training)


def unit(embeddings: Tensor) -> Tensor:
    """Embeddings (N, D) divided by their L2 norms, in float32 at least."""
    if embeddings.dtype in (torch.bfloat16, torch.float16):
        embeddings = embeddings.float()
    return F.normalize(embeddings, dim=1)


def decide(logits: Tensor) -> Tensor:
    """The predicted class of each row, (n, C) -> (n,). Raises ComputeError on a logit that is not finite."""
    if not bool(logits.isfinite().all()):
        raise ComputeError("the model's output is not finite", "check the checkpoint: it may hold non-finite weights")
    return logits.argmax(1)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Within: `model` is in eval mode and its parameters need no gradient. After: every flag is as it was."""
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, requires_grad in wanted:
            parameter.requires_grad_(requires_grad)


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Within: `model` is frozen, without gradients, and CUDA convolutions are float32 instead of TF32, so that decisions
    repeat on other devices."""
    cudnn = torch.backends.cudnn
    exact = cudnn.flags(enabled=cudnn.enabled, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False)
    with frozen(model), exact, torch.no_grad():
        yield


def predict(
    classifier: Classifier, images: Tensor, *, batch_size: int = 256, progress: Progress | None = None, what: str = ""
) -> Tensor:
    """The predicted class of each image, in eval mode.

    Args:
        classifier: with one head.
        images: (N, 3, H, W) uint8 or float in [0, 1].
        batch_size: images in one forward pass.
        progress: called after every batch; `what` is what it is told.

    Returns:
        (N,) int64, on the CPU.

    Raises:
        InputError: other pixels, or anchors of another width than the embeddings.
        ComputeError: outputs that are not finite.
    """
    check_pixels(images)
    found = torch.empty(len(images), dtype=torch.int64)
    with inference(classifier):
        for rows in torch.arange(len(images)).split(batch_size):
            found[rows] = decide(classifier.scores(to_pixels(images, rows, classifier.device))).cpu()
            if progress is not None:
                progress(int(rows[-1]) + 1, len(images), what)
    return found


def _device(embedding: nn.Module, default: torch.device) -> torch.device:
    return next((tensor.device for tensor in (*embedding.parameters(), *embedding.buffers())), default)


def _numbered(anchors: Tensor) -> AnchorSet:
    """Anchors without names, (C, D) or (H, C, D): the classes are called by their number."""
    vectors = (anchors if anchors.ndim == 2 else anchors[0]).detach().cpu().numpy()
    groups = ClassGroups.from_counts(len(vectors), None)
    return AnchorSet(vectors, tuple(str(at) for at in range(len(vectors))), groups, {"source": "given"})
