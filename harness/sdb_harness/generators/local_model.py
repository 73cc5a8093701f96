"""A checkpoint of ours in this process, behind the `Generator` protocol.

Place in the flow: `seed_diffusion` and `autoregressive` differ only in the function that samples;
here is the translation between records and token ids, the same for both, so that a comparison of
the two compares the decoding and nothing else. A batch runs as one tensor. Behind the checkpoint's
name, `weights=bfloat16` holds and multiplies them in 16 bits, `weights=e4m3` rounds head and body
to 8 (`Transformer.quantise`).

What it does not do: gain speed by 8 bits. These samplers widen such weights at each forward; the
option shows what they do to the answers.
"""

import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version

import torch

from sdb_harness.benchmarks import Gap, Prompt
from sdb_harness.errors import UserError, name_nearest
from sdb_harness.generators import Prompted
from sdb_harness.records import Completion, SamplingConfig
from sdb_kernels import packed
from sdb_kernels.backend import REQUEST_VARIABLE, choose
from sdb_reference_model.checkpoint import Checkpoint, Objective, load_checkpoint
from sdb_reference_model.memory import explain_out_of_memory, place
from sdb_reference_model.model import Transformer
from sdb_reference_model.sampler import Generation
from sdb_reference_model.tokenizer import CodeTokenizer

WARM_UP_CALLS = 3
WEIGHTS = ("float32", "bfloat16", "e4m3")

Ids = list[int]
Sample = Callable[
    [Checkpoint, list[Ids], list[Ids] | None, list[int], SamplingConfig], list[Generation]
]
"""(checkpoint, prompt ids, ids behind each gap or None where none is asked for, seed of each row,
sampling) -> one generation per prompt."""


def parse_argument(
    generator: str, argument: str, options: Mapping[str, Sequence[str]]
) -> tuple[str, dict[str, str]]:
    """Split `NAME,weights=e4m3` into the checkpoint's name and the options written behind it.

    Args:
        generator: for messages.
        argument: what stands behind the colon.
        options: what each option may be; nothing listed is anything.

    Raises:
        UserError: an unknown option or value, or one that cannot be read.
    """
    name, *parts = (part.strip() for part in argument.split(","))
    chosen: dict[str, str] = {}
    for part in parts:
        key, _, value = part.partition("=")
        if key not in options:
            raise UserError(f"{generator}: unknown option {key!r}; {name_nearest(key, options)}")
        if key in chosen:
            raise UserError(f"{generator}: {key} given twice; write it once")
        if not value or (options[key] and value not in options[key]):
            hint = name_nearest(value, options[key]) if options[key] else "a name belongs there"
            raise UserError(f"{generator}: {key}={value}; {hint}")
        chosen[key] = value
    return name, chosen


class LocalModel:
    """A loaded checkpoint and the function that samples from it."""

    def __init__(
        self,
        checkpoint: str,
        weights: str,
        objective: Objective,
        engine: str,
        sample: Sample,
        *,
        may_pack: bool = True,
    ) -> None:
        """Load the checkpoint to the best device, its weights in the form that `weights` names.

        `may_pack`: whether `sample` reads the layout of `Transformer.pack`.

        Raises:
            ValueError: the checkpoint is missing, damaged, trained for another objective, or larger
                than the GPU.
        """
        dtype = torch.bfloat16 if weights == "bfloat16" else torch.float32
        self.checkpoint = load_checkpoint(checkpoint, dtype)
        if self.checkpoint.objective != objective:
            raise ValueError(
                f"checkpoint {checkpoint!r} was trained as {self.checkpoint.objective}, this "
                f"generator needs {objective}; use the other generator or another checkpoint"
            )
        device = place(self.checkpoint.model)
        self.sample = sample
        self.revision = self.checkpoint.revision
        head_select, num_threads = choose("head_select", None, device), torch.get_num_threads()
        if weights == "e4m3":
            self.checkpoint.model.quantise()
        elif may_pack and pack_where_possible(self.checkpoint.model):
            head_select = "onednn"
        # Part of the cell's identity: a run resumed with other threads must not mix two speeds.
        self.engine = (
            f"{engine}/{version('seed-diffusion-bench')} torch/{torch.__version__} {device} "
            f"head_select={head_select} threads={num_threads}"
        )
        self.precision = "float32, e4m3 weights" if weights == "e4m3" else weights
        self.min_batch_size = 1
        self.implementations = {
            "attention": f"torch scaled_dot_product_attention, {self.checkpoint.attention}",
            "head_select": head_select,
            "weights": weights,
            "device": str(device),
            "threads": str(num_threads),
        }

    def warm_up(self, problems: Sequence[Prompted], sampling: SamplingConfig) -> None:
        """Run a few whole generations, whose output and times are thrown away."""
        for _ in range(WARM_UP_CALLS):
            list(self.generate(problems, sampling))

    def generate(
        self, batch: Sequence[Prompted], sampling: SamplingConfig
    ) -> Iterator[tuple[int, Completion]]:
        """Generate the whole batch as one tensor; each member carries its own times.

        Submission is the call: making token ids of the prompts counts, making text of the answer
        comes after the last commit and does not. A prompt that leaves no room for the answer is
        refused: an unanswered problem of this model, not a fault of ours.

        Raises:
            ValueError: a chat prompt, a canvas longer than the model can read, a block that does
                not divide the canvas, or a batch that the GPU has no memory for.
        """
        started = time.perf_counter()
        texts = [split_prompt(prompted.prompt) for prompted in batch]
        encode = self.checkpoint.tokenizer.encode
        ids = [
            (encode(text), None if behind is None else encode(behind, is_start=False))
            for text, behind in texts
        ]
        encode_s = time.perf_counter() - started
        room = self.checkpoint.model.config.max_seq_len - sampling.max_new_tokens
        # A suffix is closed by one more token. Where the canvas alone is too long, the sampler
        # says so.
        sizes = [len(text) + (0 if behind is None else len(behind) + 1) for text, behind in ids]
        fitting = [i for i, size in enumerate(sizes) if size <= room or room < 1]
        for position in set(range(len(ids))) - set(fitting):
            yield position, refuse(sizes[position], room, encode_s)
        if not fitting:
            return
        prompts = [ids[i][0] for i in fitting]
        suffixes = [behind for i in fitting if (behind := ids[i][1]) is not None]
        seeds = [batch[i].seed for i in fitting]
        try:
            generations = self.sample(self.checkpoint, prompts, suffixes or None, seeds, sampling)
        except torch.OutOfMemoryError as error:
            num_positions = max(sizes[i] for i in fitting) + sampling.max_new_tokens
            traceback.clear_frames(error.__traceback__)  # they hold the batch that did not fit
            line = explain_out_of_memory(self.checkpoint.model, len(prompts), num_positions)
            raise ValueError(line) from error
        for position, generation in zip(fitting, generations, strict=True):
            yield position, to_completion(generation, self.checkpoint.tokenizer, encode_s)

    def close(self) -> None:
        """Nothing outside this process is held."""


def pack_where_possible(model: Transformer) -> bool:
    """Lay weights out for this processor, unless kernels were asked for; tells whether it did."""
    is_possible = packed.is_available(model.embedding.weight.device)
    if is_possible and not os.environ.get(REQUEST_VARIABLE):
        model.pack()
        return True
    return False


def split_prompt(prompt: Prompt) -> tuple[str, str | None]:
    """Text to continue, and what stands behind the gap if there is one.

    Raises:
        ValueError: a chat.
    """
    if isinstance(prompt, Gap):
        return prompt.prefix, prompt.suffix
    if isinstance(prompt, str):
        return prompt, None
    raise ValueError("a base model continues source and takes no chat; use --protocol base")


def refuse(prompt_tokens: int, room: int, encode_s: float) -> Completion:
    """The record of a prompt that is longer than the model can read."""
    return Completion(
        text="",
        token_ids=(),
        output_tokens=0,
        finish_reason="refused",
        e2e_s=encode_s,
        error=f"a prompt of {prompt_tokens} tokens; this model and canvas leave room for {room}",
    )


def to_completion(generation: Generation, tokenizer: CodeTokenizer, encode_s: float) -> Completion:
    """Translate the sampler's record, whose clock started `encode_s` late, into the stored one."""
    commit_times_s = tuple(encode_s + seconds for seconds in generation.commit_times_s)
    return Completion(
        text=tokenizer.decode(generation.token_ids),
        token_ids=tuple(generation.token_ids),
        output_tokens=len(generation.token_ids),
        finish_reason=generation.finish_reason,
        nfe_prefill=generation.nfe_prefill,
        nfe_denoise=generation.nfe_denoise + generation.nfe_draft,  # whose forwards, is no matter
        nfe_commit=generation.nfe_commit,
        commit_times_s=commit_times_s,
        commit_tokens=tuple(generation.commit_tokens),
        e2e_s=commit_times_s[-1],
    )
