"""Whole texts by one step that is replayed: the tokens of `sample_blocks`, and no question between.

    load      prompts into the buffers of their shape, one prefill
    replay    k times: read a window, propose, commit (`fused.Step`); a row whose block is full
              makes it past and goes on to a block of masks, by itself
    poll      ask the device how far every row is; when all are done, read what was written

Place in the flow: `sampler.sample_blocks` for its plainest case, greedy tokens by a threshold, in
any order or from the left, under the exact cache. The step is captured once per shape as a CUDA
graph on a CUDA device, and called as it is elsewhere. `sample_blocks` is the definition: same
tokens, same reasons to finish, same counts of forwards. `replay_tokens.py` is the same for the
autoregressive twin.

Who makes the kernels of a step is a choice of its own: the operators, which take Triton's on a GPU,
or torch.compile, which fuses the same step of PyTorch's calls (`compiler="inductor"`).
Neither runs in inference mode, whose tensors torch.compile does not take.

What it does not do: draw, revise, fill gaps, shrink the forward to open positions (a graph has one
shape), gain anything on a processor, capture or compile ahead: the first call of a shape waits.

Choice: the window is the block and the one before it, whose keys and values are thereby written in
final form with the next block's first step, as `Cached` does it. Every step then reads 2b tokens,
which costs nothing where a forward is bound by its weights (`roofline.py`: below the knee). Above
it, `is_folded=False` reads b tokens and spends one forward more per block. On a causal past the
window begins and ends one token earlier, where the block is predicted.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sdb_kernels.backend import choose
from sdb_kernels.commit_tokens import MAX_BLOCK_SIZE
from sdb_reference_model.checkpoint import Checkpoint
from sdb_reference_model.fused import Step, read_block
from sdb_reference_model.model import KVCache, Transformer
from sdb_reference_model.policy_specs import parse_policy
from sdb_reference_model.sampler import Generation, check_canvas
from sdb_reference_model.tokenizer import SpecialIds, pad_left

POLL_EVERY = 4
"""Replays between two polls. Those behind a text's end are lost, and commit times are a poll's."""
CAPACITY_STEP = 512
"""Positions of a cache are a multiple, so that prompts of many lengths share a shape."""
MAX_SHAPES = 4
"""Shapes whose buffers are kept, each with a cache of its own; the oldest goes first."""
NUM_WARM_UP_RUNS = 3
"""Of a step before it is captured."""

COMPILERS = {"replayed": None, "compiled": "inductor"}
"""Sampler -> what compiles its step."""


class Runnable(Protocol):
    """The buffers of one shape, and a step that moves them on."""

    text: Tensor

    def run(self) -> None:
        """One step of every row."""
        ...


S = TypeVar("S")
C = TypeVar("C", bound=Runnable)
Steps = dict[S, tuple[C, Callable[[], object]]]
"""Shape -> its buffers, and what replays their step."""


def find_obstacle(
    checkpoint: Checkpoint, block_size: int | None = None, temperature: float = 0.0
) -> str | None:
    """Say what keeps a checkpoint from being sampled by replays, or None if nothing does."""
    is_read = checkpoint.attention in ("block_causal", "causal_past")
    if checkpoint.objective != "diffusion" or not is_read:
        return (
            f"the model is {checkpoint.objective} and {checkpoint.attention}, not block_causal or "
            "causal_past"
        )
    if checkpoint.tokenizer.control_ids is not None:
        return "the model knows DELETE and INSERT, and `head_select` forbids one token only"
    if block_size is not None and block_size > MAX_BLOCK_SIZE:
        return f"block_size={block_size} is above {MAX_BLOCK_SIZE}"
    if temperature > 0:
        return f"temperature={temperature}, and it takes the most probable token"
    return None


def choose_sampler(
    request: str | None, obstacle: str | None, device: torch.device, plain: str = "blocks"
) -> str:
    """Name what runs: `"replayed"` on a CUDA device where nothing is in its way, else `plain`.

    Args:
        request: one of the two names, or `"compiled"`: replays of a step that torch.compile made;
            None to choose by capability.
        obstacle: from `find_obstacle`, or the caller's own.
        device: of the model.
        plain: what the sampler without replays is called.

    Raises:
        ValueError: replays were asked for and cannot run.
    """
    if request in COMPILERS and obstacle is not None:
        raise ValueError(f"sampler={request} cannot run: {obstacle}; use sampler={plain}")
    return request or ("replayed" if device.type == "cuda" and obstacle is None else plain)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a step commits: `commit_above`, or `commit_prefix` of `policies.py`."""

    threshold: float
    is_prefix: bool = False


def find_rule(threshold: float | None, policy: str | None) -> Rule | None:
    """The rule that a threshold or the text of a policy names; None of what replays do not do."""
    if policy is None:
        return None if threshold is None else Rule(threshold)
    spec = parse_policy(policy)
    return Rule(spec.values[0], is_prefix=True) if spec.name == "prefix" else None


@dataclass(frozen=True, slots=True)
class Shape:
    """What a captured step cannot change."""

    num_rows: int
    block_size: int
    max_new_tokens: int
    rule: Rule
    capacity: int
    """Positions of the cache."""


class Replayer:
    """A model's replayed steps, one per shape, kept from call to call."""

    def __init__(
        self,
        model: Transformer,
        tokenizer: SpecialIds,
        *,
        is_folded: bool = True,
        poll_every: int = POLL_EVERY,
        compiler: str | None = None,
    ) -> None:
        """Bind a diffusion model that is not packed; nothing is captured yet.

        Args:
            model: its weights must stay where they are.
            tokenizer: for its mask, end and pad ids, no more.
            is_folded: commit a block's keys and values within the next block's steps.
            poll_every: replays k between two questions to the device.
            compiler: backend of torch.compile, such as `"inductor"`; None for the operators' own
                kernels.

        Raises:
            ValueError: no replays between polls.
        """
        if poll_every < 1:
            raise ValueError(f"poll_every={poll_every} must be at least 1")
        self.model, self.tokenizer = model, tokenizer
        self.is_folded, self.poll_every, self.compiler = is_folded, poll_every, compiler
        self.steps: Steps[Shape, Canvas] = {}

    @property
    def implementation(self) -> str:
        """What runs, for the record."""
        return describe(self.model, self.poll_every, self.compiler)

    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        block_size: int,
        rule: Rule,
        max_new_tokens: int,
    ) -> list[Generation]:
        """Generate one answer per prompt: `sample_blocks` with the policy that `rule` names.

        Commit times are those of the poll that saw the block full. The clock starts when the shape
        is captured: that is warm-up, which whichever prompt comes first is not to pay.

        Raises:
            ValueError: as `sample_blocks`, a block that `commit_tokens` cannot hold, or a step that
                cannot be compiled here.
        """
        check_canvas(self.model, prompts, block_size, max_new_tokens)
        # The first window begins within the prompt.
        width = max(*map(len, prompts), count_before(self.model, block_size, self.is_folded))
        capacity = -(-(width + max_new_tokens) // CAPACITY_STEP) * CAPACITY_STEP
        canvas, replay = self.prepare(
            Shape(len(prompts), block_size, max_new_tokens, rule, capacity)
        )
        started = time.perf_counter()
        prompt = pad_left(prompts, self.tokenizer.pad_id)  # [B, P]
        prompt = F.pad(prompt, (width - prompt.shape[1], 0), value=self.tokenizer.pad_id)
        canvas.load(prompt, torch.tensor([width - len(ids) for ids in prompts]))
        results = [Generation(nfe_prefill=1) for _ in prompts]
        is_done = False
        while not is_done:
            for _ in range(self.poll_every):
                replay()
            progress = canvas.poll()
            elapsed_s = time.perf_counter() - started
            for result, (num_full, _) in zip(results, progress, strict=True):
                num_new = num_full - len(result.commit_times_s)
                result.commit_times_s += [elapsed_s] * num_new
            is_done = all(is_finished for _, is_finished in progress)
        self.record(canvas, block_size, results)
        return results

    def prepare(self, shape: Shape) -> tuple["Canvas", Callable[[], object]]:
        """The buffers of a shape and what replays its step, new or from an earlier call."""

        def make() -> Canvas:
            backend = None if self.compiler is None else "reference"
            return Canvas(self.model, self.tokenizer, shape, self.is_folded, backend)

        return find_step(self.steps, shape, make, self.compiler)

    def record(self, canvas: "Canvas", block_size: int, results: Sequence[Generation]) -> None:
        """Read the finished texts and their counts into the generations."""
        for result, (text, step_commits) in zip(results, canvas.read(), strict=True):
            num_blocks = len(result.commit_times_s)
            for start in range(0, num_blocks * block_size, block_size):
                ids = text[start : start + block_size]
                generated = [i for i in ids if i != self.tokenizer.end_id]
                result.token_ids += generated
                result.commit_tokens.append(len(generated))
                if self.tokenizer.end_id in ids:
                    result.finish_reason = "stop"
            result.nfe_denoise, result.step_commits = len(step_commits), step_commits
            result.nfe_commit = 0 if self.is_folded else num_blocks - 1
            result.step_edits = [0] * len(step_commits)
            result.step_remasks = [0] * len(step_commits)


def count_before(model: Transformer, block_size: int, is_folded: bool) -> int:
    """Tokens p that are read in front of a block: the one before it, the token that predicts it."""
    return block_size * is_folded + model.config.causal_past


class Canvas:
    """The buffers of one shape on the model's device, and the step that moves them on.

    Every row is at a block of its own. A row that is finished is computed and left as it is.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: SpecialIds,
        shape: Shape,
        is_folded: bool,
        backend: str | None = None,
    ) -> None:
        """Allocate rows that are finished, so that a step may run before there is a prompt."""
        device, rows, size = model.embedding.weight.device, shape.num_rows, shape.block_size
        self.is_folded = is_folded
        width = count_before(model, size, is_folded) + size
        tokens = torch.full((rows, width), tokenizer.end_id, device=device)
        self.step = Step(
            model,
            KVCache(model.config, rows, shape.capacity, model.embedding.weight),
            block=tokens[:, -size:].clone(),
            before=tokens[:, :-size],
            num_past=torch.zeros(rows, dtype=torch.int32, device=device),
            is_done=torch.ones(rows, dtype=torch.bool, device=device),
            mask_id=tokenizer.mask_id,
            end_id=tokenizer.end_id,
            threshold=shape.rule.threshold,
            is_prefix=shape.rule.is_prefix,
            first_key=torch.zeros(rows, dtype=torch.int32, device=device),
            backend=backend,
        )
        self.end_id, self.last = tokenizer.end_id, shape.max_new_tokens // size - 1
        self.offsets = torch.arange(size, device=device)  # [b]
        self.index = torch.zeros(rows, dtype=torch.int64, device=device)
        """Which block of its answer each row is at."""
        self.num_steps = torch.zeros_like(self.index)
        """Denoising steps of each row so far: a step on a full block is none."""
        # A step commits a token or more, so there are at most as many steps as tokens.
        self.step_commits = torch.zeros(
            rows, shape.max_new_tokens + 1, dtype=torch.int64, device=device
        )
        self.text = torch.zeros(rows, shape.max_new_tokens, dtype=torch.int64, device=device)
        self.progress = torch.zeros(rows, 2, dtype=torch.int64, device=device)
        """Full blocks of each row, and whether it is finished."""

    @torch.no_grad()
    def load(self, prompt: Tensor, first_key: Tensor) -> None:
        """Begin texts behind prompts [B, P], left-padded by `first_key` [B]; one forward."""
        step, width, num_before = self.step, prompt.shape[1], self.step.before.shape[1]
        prompt = prompt.to(self.text.device)
        step.first_key.copy_(first_key)  # type: ignore[union-attr]
        step.num_past.zero_()
        read_block(
            step.model,
            prompt,
            step.cache,
            num_past=step.num_past,
            first_key=step.first_key,
            block_size=1 if step.model.config.causal_past else None,
        )
        step.num_past.fill_(width - num_before)
        step.before.copy_(prompt[:, width - num_before :])
        step.block.fill_(step.mask_id)
        for buffer in (self.index, self.num_steps, self.step_commits):
            buffer.zero_()

    @torch.no_grad()
    def run(self) -> None:
        """One step of every row, all on the device."""
        step, size = self.step, len(self.offsets)
        was_full = (step.block != step.mask_id).all(dim=1)  # [B]
        num_committed = step.run()
        is_full = step.is_done
        self.step_commits.scatter_add_(1, self.num_steps[:, None], num_committed[:, None].long())
        self.num_steps.add_(~was_full)
        columns = self.index[:, None] * size + self.offsets  # [B, b]
        self.text.scatter_(1, columns, step.block)
        is_last = (step.block == self.end_id).any(dim=1) | (self.index == self.last)
        self.progress.copy_(torch.stack((self.index + is_full, is_full & is_last), dim=1))
        # Unfolded, a full block is read once more: that writes its keys and values.
        is_past = (is_full if self.is_folded else was_full) & ~is_last
        behind = torch.cat((step.before, step.block), dim=1)[:, size:]  # [B, p]
        step.before.copy_(torch.where(is_past[:, None], behind, step.before))
        step.block.masked_fill_(is_past[:, None], step.mask_id)
        step.num_past.add_(size * is_past)
        self.index.add_(is_past)

    def poll(self) -> list[list[int]]:
        """Ask the device for the full blocks of each row and whether it is finished; waits."""
        rows: list[list[int]] = self.progress.tolist()
        return rows

    def read(self) -> list[tuple[list[int], list[int]]]:
        """Ask for each row's text and the commits of each of its steps; waits."""
        rows = torch.cat((self.num_steps[:, None], self.step_commits, self.text), dim=1).tolist()
        num_logged = self.step_commits.shape[1]
        return [(row[1 + num_logged :], row[1 : 1 + row[0]]) for row in rows]


def find_step(
    steps: Steps[S, C], shape: S, make: Callable[[], C], compiler: str | None
) -> tuple[C, Callable[[], object]]:
    """Look up a shape's buffers and replay, or make them; the oldest of too many goes."""
    if shape in steps:
        return steps[shape]
    if len(steps) == MAX_SHAPES:
        del steps[next(iter(steps))]
        if compiler is not None:
            torch.compiler.reset()  # it counts what it ever compiled, and stops at eight
    try:
        canvas = make()
        steps[shape] = canvas, capture(canvas.run, canvas.text.device, compiler)
    except torch.OutOfMemoryError:
        steps.clear()  # so that what is said to fit does
        raise
    return steps[shape]


def capture(
    run: Callable[[], object], device: torch.device, compiler: str | None = None
) -> Callable[[], object]:
    """Return a replay of `run` as a CUDA graph, or `run` itself on another device.

    It is run a few times first, so it must not mind: torch.compile and Triton compile, and
    libraries set themselves up, outside the graph.

    Raises:
        ValueError: `compiler` cannot compile it here.
    """
    if compiler is not None:
        run = compile_step(run, compiler)
    if device.type != "cuda":
        return run
    with torch.cuda.device(device):
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(NUM_WARM_UP_RUNS):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
    return graph.replay


def compile_step(run: Callable[[], object], compiler: str) -> Callable[[], object]:
    """Compile `run` as one piece, and run it once.

    Raises:
        ValueError: it cannot be, for example because there is no C++ compiler.
    """
    compiled: Callable[[], object] = torch.compile(
        run, backend=compiler, fullgraph=True, dynamic=False
    )
    try:
        compiled()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # the base of all that torch.compile raises
        line = " ".join(str(error).split("\n")[:2])  # which backend, and why
        raise ValueError(
            f"torch.compile ({compiler}) cannot compile the step here: {line}; use sampler=replayed"
        ) from error
    return compiled


def describe(model: Transformer, poll_every: int, compiler: str | None) -> str:
    """Name how steps are replayed, and by which attention, for the record."""
    device = model.embedding.weight.device
    how = [] if compiler is None else [f"torch.compile ({compiler})"]
    if device.type == "cuda":
        how.append("CUDA graph")
    attention = choose("block_attention", None, device) if compiler is None else "sdpa"
    return (
        f"replayed, {', '.join(how or ['eager'])}, poll_every={poll_every}, "
        f"block_attention={attention}"
    )
