"""Few-shot heads against the naive formulas, one episode at a time, in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stages.models.heads import PrototypeHead, RidgeHead, head_logits

EPISODES, WAYS, SHOTS, QUERIES, WIDTH = 3, 4, 2, 5, 7


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape)))


def test_prototypes_are_the_nearest_class_mean_up_to_a_constant_of_the_image() -> None:
    support, queries = drawn(EPISODES, WAYS, SHOTS, WIDTH), drawn(EPISODES, QUERIES, WIDTH)
    found = head_logits(PrototypeHead()(support), queries).log_softmax(-1)
    for episode in range(EPISODES):
        means = [torch.stack(list(shown)).mean(0) for shown in support[episode]]
        for at, x in enumerate(queries[episode]):
            naive = torch.stack([-((x - mean) ** 2).sum() / WIDTH for mean in means])
            torch.testing.assert_close(found[episode, at], naive.log_softmax(0), rtol=1e-9, atol=1e-12)


def test_ridge_heads_solve_the_primal_problem_of_each_episode() -> None:
    support, queries, head = drawn(EPISODES, WAYS, SHOTS, WIDTH), drawn(EPISODES, QUERIES, WIDTH), RidgeHead().double()
    with torch.no_grad():
        head.log_ridge.fill_(0.3)
        head.scale.fill_(2.5)
        head.shift.fill_(-0.7)
    found = head_logits(head(support), queries)
    for episode in range(EPISODES):
        x = torch.cat((support[episode].reshape(-1, WIDTH), torch.ones(WAYS * SHOTS, 1, dtype=torch.float64)), 1)
        y = torch.zeros(WAYS * SHOTS, WAYS, dtype=torch.float64)
        y[range(WAYS * SHOTS), [at // SHOTS for at in range(WAYS * SHOTS)]] = 1
        # the primal form: (X^T X + lambda I)^-1 X^T Y
        w = torch.linalg.inv(x.T @ x + math.exp(0.3) * torch.eye(WIDTH + 1, dtype=torch.float64)) @ x.T @ y
        shown = torch.cat((queries[episode], torch.ones(QUERIES, 1, dtype=torch.float64)), 1)
        torch.testing.assert_close(found[episode], 2.5 * shown @ w - 0.7, rtol=1e-9, atol=1e-10)


def test_lambda_and_the_scale_of_ridge_heads_are_learnt_and_the_features_too() -> None:
    head, support = RidgeHead().double(), drawn(EPISODES, WAYS, SHOTS, WIDTH).requires_grad_()
    arguments = (head.log_ridge, head.scale, support, drawn(EPISODES, QUERIES, WIDTH).requires_grad_())

    def logits(log_ridge: Tensor, scale: Tensor, support: Tensor, queries: Tensor) -> Tensor:
        given = {"log_ridge": log_ridge, "scale": scale}
        return head_logits(torch.func.functional_call(head, given, (support,)), queries)

    assert torch.autograd.gradcheck(logits, arguments)
