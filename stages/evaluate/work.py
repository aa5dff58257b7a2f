"""How the points of an evaluation are worked off: piece by piece, shared among processes, and not twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.attacks.spec import AttackSpec
from stages.evaluate.parts import Parts, digest_of
from stages.world import World

# below this many images at once, the sums of oneDNN and of matrix products on the CPU run in another order
LEAST_ON_CPU = 16
# steps that a piece takes on full batches, about: a killed evaluation loses no more
_PIECE_STEPS = 160


def filled(tensor: Tensor) -> Tensor:
    """`tensor` (n, …), n at least 1, with its first row repeated to at least 16 rows on the CPU, images channels last: so a
    row's result is the same, to the last bit, in a batch of any size. The rows added get no gradient."""
    if tensor.device.type != "cpu":
        return tensor
    missing = LEAST_ON_CPU - len(tensor)
    if missing > 0:
        tensor = torch.cat((tensor, tensor[:1].detach().expand(missing, *tensor.shape[1:])))
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def piece_size(spec: AttackSpec, batch_size: int) -> int:
    """How many points are attacked in one go. It does not follow from time or processes: neither do the results."""
    return batch_size * max(1, _PIECE_STEPS // spec.steps)


@dataclass(frozen=True)
class Work:
    """Who works with us, and what is done already.

    Attributes:
        world: the processes that evaluate together; each does every n-th piece.
        parts: where finished pieces are kept; None keeps none.
        about: everything that the results follow from and that `through` is not told.
    """

    world: World = field(default_factory=World)
    parts: Parts | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def through(
        self,
        rows: Tensor,
        size: int,
        columns: Sequence[np.ndarray],
        judge: Callable[[Tensor], None],
        *,
        about: Mapping[str, Any],
        device: torch.device,
        known: Callable[[Tensor], None],
    ) -> None:
        """Fill `columns` at `rows`, in all processes alike.

        Args:
            rows: (M,) int64 on the CPU.
            size: of a piece.
            columns: int32 or float32, one value a point.
            judge: fills the columns at the rows of one piece (n,).
            about: what the results follow from, besides `self.about` and the rows.
            device: of this process.
            known: told the rows (n,) that need not be judged, because they were once.
        """
        mine = rows.split(size)[self.world.rank :: self.world.size] if len(rows) else ()
        record = {**self.about, **about}
        try:
            for piece in mine:
                self._do(piece, columns, judge, record, known)
        except BaseException:
            if self.parts is not None:
                self.parts.write()
            raise
        if self.world.size > 1:
            self._gather(rows, torch.cat(mine) if mine else rows[:0], columns, device)

    def _do(
        self,
        piece: Tensor,
        columns: Sequence[np.ndarray],
        judge: Callable[[Tensor], None],
        record: Mapping[str, Any],
        known: Callable[[Tensor], None],
    ) -> None:
        at = piece.numpy()
        if self.parts is None:
            judge(piece)
            return
        name = digest_of(record, at)
        done = self.parts.find(name, [column[at] for column in columns])
        if done is None:
            judge(piece)
            self.parts.keep(name, [column[at] for column in columns])
            return
        for column, values in zip(columns, done, strict=True):
            column[at] = values
        known(piece)

    def _gather(self, rows: Tensor, mine: Tensor, columns: Sequence[np.ndarray], device: torch.device) -> None:
        """Every row was done by one process; the others add zeros. Added as integers, floats keep every bit."""
        for column in columns:
            bits = column.view(np.int32)
            told = torch.zeros(len(bits), dtype=torch.int32)
            told[mine] = torch.from_numpy(bits[mine.numpy()])
            message = told[rows].to(device)
            self.world.sum([message])
            bits[rows.numpy()] = message.cpu().numpy()
