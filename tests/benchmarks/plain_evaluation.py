"""The plain program that evaluates: a loop over the episodes on PyTorch's own layers, and pyautoattack called directly.

Float32, channels first, batch norm as a layer of its own, parameters not frozen; every attack step for every image.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from stages.attacks.spec import parse_attacks
from stages.data.episodes import draw_episodes
from tests.benchmarks.evaluation_task import AUTOATTACK, SCALE, THREAT, evaluation_task
from tests.benchmarks.reference import plain_network, wait


class PlainEvaluation:
    """The plain program on the task of `evaluation_task`, with the same arguments."""

    def __init__(self, backbone: str, device: str, episodes: int, queries: int) -> None:
        self._task, self._device = evaluation_task(backbone, device, episodes, queries), device
        self._network = plain_network(self._task.model).to(device).eval()

    def episodes(self, attack: str) -> float:
        """Seconds of an evaluation of the episodes. Raises AssertionError unless every image is classified correctly."""
        group, how = self._task.group, self._task.protocol
        wait(self._device)
        start = time.perf_counter()
        episodes = draw_episodes(
            group.labels, group.classes, episodes=how.episodes, ways=how.ways, shots=0, queries=how.queries, seed=how.seed
        )
        for classes, query in zip(episodes.classes, episodes.query, strict=True):
            heads = group.anchors[classes].to(self._device)
            x = group.images[query.reshape(-1)].to(self._device).float() / 255
            y = torch.arange(how.ways, device=self._device).repeat_interleave(how.queries)
            for images in (x, self._attacked(attack, heads, x, y)):
                assert torch.equal(self._decisions(images, heads), y)
        wait(self._device)
        return time.perf_counter() - start

    def autoattack(self, steps: int, batch_size: int) -> float:
        """Seconds of the suite aa-few-class on all images, `steps` steps and queries an attack. Raises as `episodes`."""
        from pyautoattack import AutoAttack

        group = self._task.group
        wait(self._device)
        start = time.perf_counter()
        heads, y = group.anchors.to(self._device), group.labels.to(self._device)
        attack = AutoAttack(
            lambda images: SCALE * self._network(images) @ heads.T,
            norm="Linf",
            eps=THREAT.radius,
            seed=0,
            device=self._device,
            version="custom",
            attacks=list(AUTOATTACK),
        )
        for one in (attack.apgd, attack.apgd_targeted, attack.fab):
            one.n_iter, one.n_restarts = steps, 1
        for one in (attack.apgd_targeted, attack.fab):
            one.n_target_classes = len(group.classes) - 1
        attack.square.n_queries = steps
        x_adv, *_ = attack.run_standard_evaluation(group.images.to(self._device).float() / 255, y, batch_size=batch_size)
        assert torch.equal(self._decisions(x_adv, heads), y)
        wait(self._device)
        return time.perf_counter() - start

    def _attacked(self, name: str, heads: Tensor, x: Tensor, y: Tensor) -> Tensor:
        (spec,) = parse_attacks([name])
        step, radius = spec.step_size(THREAT), THREAT.radius
        x_adv = (x + torch.empty_like(x).uniform_(-radius, radius)).clamp(0, 1) if spec.random_start else x.clone()
        for _ in range(spec.steps):
            x_adv = x_adv.detach().requires_grad_(True)
            logits = SCALE * self._network(x_adv) @ heads.T
            if spec.loss == "ce":
                loss = cross_entropy(logits, y, reduction="sum")
            else:
                loss = (logits.scatter(1, y[:, None], -torch.inf).amax(1) - logits.gather(1, y[:, None])[:, 0]).sum()
            (grad,) = torch.autograd.grad(loss, x_adv)
            x_adv = (x_adv.detach() + step * grad.sign()).clamp(x - radius, x + radius).clamp(0, 1)
        return x_adv.detach()

    def _decisions(self, images: Tensor, heads: Tensor) -> Tensor:
        with torch.no_grad():
            return (self._network(images) @ heads.T).argmax(1)
