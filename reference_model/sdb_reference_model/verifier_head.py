"""The paper's model-based verifier V at its smallest: a linear head that predicts the tests.

Place in the flow: fitted to a pool of `distill.py`, whose candidates carry the rewards of real
tests, and then used as V of `onpolicy.py` instead of the tests. It reads the frozen start model, so
that training cannot move what judges it.

Choice: mean hidden state over the answer, standardised, then logistic regression. The paper names a
"model-based verifier" and nothing else.

What it does not do: execute anything. It can be fooled, which is what comparing it with the tests
is meant to show.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor

from sdb_reference_model.checkpoint import Checkpoint
from sdb_reference_model.data import collate
from sdb_reference_model.distill import check_tokenizer
from sdb_reference_model.states import read_slabs, split
from sdb_reference_model.trajectories import locate_answer

ROWS_PER_FORWARD = 64
HELD_OUT_EVERY = 5
"""Every fifth prompt is kept out of the fit, to say how good the head is."""


@dataclass(frozen=True, slots=True)
class VerifierHead:
    """A fitted head: sigmoid(weight . (features - mean) / scale + bias)."""

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    held_out_accuracy: float
    """Share of the held-out candidates on the right side of one half."""
    held_out_base_rate: float
    """What always giving the more frequent answer would reach on them."""

    def score(self, features: Tensor) -> Tensor:
        """Probability float32 [B] that the tests pass, from features [B, D]."""
        return torch.sigmoid((features - self.mean) / self.scale @ self.weight + self.bias)


@torch.no_grad()
def read_features(
    checkpoint: Checkpoint,
    prompt_ids: Sequence[Sequence[int]],
    answer_ids: Sequence[Sequence[int]],
    block_size: int,
) -> Tensor:
    """Mean hidden state over each finished answer, float32 [B, D]."""
    tokenizer, parts = checkpoint.tokenizer, []
    for start in range(0, len(prompt_ids), ROWS_PER_FORWARD):
        own = slice(start, start + ROWS_PER_FORWARD)
        batch = collate(
            prompt_ids[own], answer_ids[own], tokenizer.pad_id, tokenizer.end_id, block_size
        )
        slabs = split(batch.answer, block_size)
        hidden = read_slabs(checkpoint.model, batch, slabs, range(slabs.shape[1])).flatten(1, 2)
        is_answer = locate_answer(batch)[..., None]  # [B, C, 1]
        parts.append((hidden * is_answer).sum(dim=1) / is_answer.sum(dim=1))
    return torch.cat(parts).float()


def fit_verifier_head(
    checkpoint: Checkpoint, pool: Dataset, block_size: int, num_steps: int = 300
) -> VerifierHead:
    """Fit the head to the judged candidates of a pool.

    Raises:
        ValueError: if the pool has no judged candidates of both kinds, or another tokenizer.
    """
    check_tokenizer(pool, checkpoint.tokenizer)
    is_judged = [index for index, reward in enumerate(pool["reward"]) if reward is not None]
    judged = pool.select(is_judged)
    label = torch.tensor([float(reward == 1.0) for reward in judged["reward"]])
    is_held_out = torch.tensor([row % HELD_OUT_EVERY == 0 for row in judged["prompt_row"]])
    if not len(label) or not 0.0 < float(label[~is_held_out].mean()) < 1.0:
        raise ValueError(
            "a learned verifier needs judged candidates that pass and that fail; make the pool "
            "with a verifier and several temperatures"
        )
    features = read_features(checkpoint, judged["prompt_ids"], judged["answer_ids"], block_size)
    fitted = features[~is_held_out]
    mean, scale = fitted.mean(dim=0), fitted.std(dim=0).clamp(min=1e-6)
    weight = torch.zeros(features.shape[1], requires_grad=True)
    bias = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.AdamW([weight, bias], lr=0.01, weight_decay=0.1)
    for _ in range(num_steps):
        logits = (fitted - mean) / scale @ weight + bias
        loss = F.binary_cross_entropy_with_logits(logits, label[~is_held_out])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    head = VerifierHead(mean, scale, weight.detach(), bias.detach(), 0.0, 0.0)
    held_out = label[is_held_out]
    if not len(held_out):
        return head
    is_right = (head.score(features[is_held_out]) > 0.5) == (held_out > 0.5)
    base_rate = max(float(held_out.mean()), 1.0 - float(held_out.mean()))
    return VerifierHead(
        mean, scale, head.weight, head.bias, float(is_right.float().mean()), base_rate
    )


def make_learned_verifier(
    head: VerifierHead, checkpoint: Checkpoint, prompts: Sequence[str], block_size: int
) -> Callable[[Sequence[int], Sequence[str]], list[float | None]]:
    """V as a callable for `onpolicy.train_on_policy`: the head's probability of each completion."""

    def verify(rows: Sequence[int], completions: Sequence[str]) -> list[float | None]:
        tokenizer = checkpoint.tokenizer
        encoded = tokenizer.encode_batch(completions, is_start=False)
        answers = [[*ids, tokenizer.end_id] for ids in encoded]
        prompt_ids = tokenizer.encode_batch([prompts[row] for row in rows])
        features = read_features(checkpoint, prompt_ids, answers, block_size)
        scores: list[float | None] = list(head.score(features).tolist())
        return scores

    return verify
