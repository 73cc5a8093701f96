"""The learned verifier: it finds a planted rule, says how good it is, and refuses to guess."""

import json
from dataclasses import replace

import pytest
import torch
from datasets import Dataset

from sdb_reference_model.checkpoint import Checkpoint
from sdb_reference_model.model import SIZES, Transformer
from sdb_reference_model.tokenizer import CodeTokenizer
from sdb_reference_model.verifier_head import (
    fit_verifier_head,
    make_learned_verifier,
    read_features,
)

TOKENIZER = CodeTokenizer.train(["red blue green"], 300)
PROMPTS = [f"p{number}" for number in range(10)]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    model = Transformer(replace(SIZES["test"], vocab_size=300))
    model.initialise(torch.Generator().manual_seed(7))
    model.embedding.weight.data *= 20
    return Checkpoint(model.eval().requires_grad_(False), TOKENIZER, "diffusion", "f" * 16, {})


def make_pool() -> Dataset:
    """Answers pass if they say red; one candidate in eleven was never judged."""
    rows = []
    for index in range(110):
        text = ("red" if index % 2 else "blue") + "xy"[index % 3 % 2]
        rows.append(
            {
                "prompt_row": index % 10,
                "prompt_ids": TOKENIZER.encode(PROMPTS[index % 10]),
                "answer_ids": [*TOKENIZER.encode(text), TOKENIZER.end_id],
                "reward": None if index >= 100 else float(index % 2),
            }
        )
    pool = Dataset.from_list(rows)
    pool.info.description = json.dumps({"tokenizer": TOKENIZER.fingerprint})
    return pool


def test_a_planted_rule_is_learned_and_transfers_to_text(checkpoint: Checkpoint) -> None:
    head = fit_verifier_head(checkpoint, make_pool(), block_size=4)
    assert head.held_out_accuracy == 1.0
    assert head.held_out_base_rate < 1.0
    verify = make_learned_verifier(head, checkpoint, PROMPTS, block_size=4)
    scores = verify([0, 1, 2, 3], ["redx", "bluex", "redy", "bluey"])
    assert [score is not None and score > 0.5 for score in scores] == [True, False, True, False]


def test_features_do_not_depend_on_the_batch(checkpoint: Checkpoint) -> None:
    prompts = [[10, 11, 12], [13]]
    answers = [[20, 21, 22, 23, 24, TOKENIZER.end_id], [25, TOKENIZER.end_id]]
    together = read_features(checkpoint, prompts, answers, 4)
    for row in range(2):
        alone = read_features(checkpoint, prompts[row : row + 1], answers[row : row + 1], 4)
        torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-5)


def test_a_pool_of_one_kind_is_refused(checkpoint: Checkpoint) -> None:
    pool = make_pool()
    passing = pool.select([i for i, reward in enumerate(pool["reward"]) if reward == 1.0])
    unjudged = pool.select([i for i, reward in enumerate(pool["reward"]) if reward is None])
    for poor in (passing, unjudged):
        with pytest.raises(ValueError, match="candidates that pass and that fail"):
            fit_verifier_head(checkpoint, poor, block_size=4)
