"""Train a tiny random model on minipy with TRL's GRPO, rewarded by executing what it writes.

    python sandboxes/examples/grpo_minipy.py --steps 3

Needs the `dev` extra (trl, transformers, datasets), two CPU cores and no network: the model is
built from a configuration, the problems are generated. It shows how a check travels in a column and
how verdicts become rewards; a random model of this size learns nothing in a few steps.
"""

import argparse
import tempfile
from pathlib import Path

from datasets import Dataset
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

import sdb_reference_model
from sdb_harness.benchmarks.minipy import LIMITS, load_problems
from sdb_harness.extract import keep_function_body
from sdb_sandboxes.rewards import Judge, fraction_of_tests
from sdb_sandboxes.rewards.shaping import Conversation
from sdb_sandboxes.rewards.trl import TrlReward
from sdb_sandboxes.types import Status, Verdict
from sdb_sandboxes.wire import check_to_json

TOKENIZER = Path(sdb_reference_model.__file__).parent / "checkpoints/demo-ar/tokenizer.json"


def make_dataset(num_problems: int) -> Dataset:
    """One row per problem: what the model continues, and the check as JSON."""
    problems = load_problems(split="train", num_problems=num_problems)
    return Dataset.from_list(
        [{"prompt": problem.prompt, "check": check_to_json(problem.check)} for problem in problems]
    )


def make_model() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A random model of some hundred thousand parameters with the tokenizer of our demo."""
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer.from_file(str(TOKENIZER)),
        eos_token="<|endoftext|>",
        pad_token="<|pad|>",
        mask_token="<|mask|>",
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config), tokenizer


def extract(prompt: Conversation, completion: Conversation) -> str:
    """The function body that continues the prompt, without what a base model writes after it."""
    return str(prompt) + keep_function_body(str(completion)).code


def reward_parsing(verdict: Verdict) -> float:
    """A shape of our own: a random model solves nothing, but some of what it writes is Python."""
    is_python = verdict.status is not Status.COMPILE_ERROR
    return 0.1 * is_python + 0.9 * fraction_of_tests(verdict)


def train(steps: int, folder: Path) -> list[dict[str, float]]:
    """Train for some steps; returns what the trainer logged at each."""
    model, tokenizer = make_model()
    judge = Judge(num_slots=2, limits=LIMITS)
    trainer = GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=TrlReward(judge, extract, reward_parsing).verify,
        train_dataset=make_dataset(8),
        args=GRPOConfig(
            output_dir=str(folder),
            max_steps=steps,
            per_device_train_batch_size=8,
            num_generations=4,
            max_completion_length=24,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            activation_checkpointing=False,
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
            learning_rate=1e-3,
            seed=0,
        ),
    )
    trainer.train()
    judge.close()
    return [dict(entry) for entry in trainer.state.log_history]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as folder:
        for entry in train(steps, Path(folder)):
            if "reward" in entry:
                shares = {name: share for name, share in entry.items() if "verdict" in name}
                print(f"reward {entry['reward']:.3f}", {k: v for k, v in shares.items() if v})


if __name__ == "__main__":
    main()
