"""The nouns that flow through the harness: problems, cells, completions, stored rows.

Flow: `Problem` -> `Generator.generate(problems, SamplingConfig)` -> `Completion` -> extracted
program -> `Verdict` -> `SampleRow`. A `Cell` is one grid point of a sweep: everything that may
move a number. Its hash is part of the key of every row, so a rerun resumes and nothing is
doubled. Wire types are frozen and strict: an unknown field or a wrong type is an error.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from sdb_reference_model.policy_specs import parse_policy
from sdb_sandboxes.types import Check

SCHEMA_VERSION = 2
"""Rides on every stored row; raised whenever the meaning of a column changes."""


class Wire(BaseModel):
    """Base of everything that is written to disk or hashed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def to_canonical_json(self) -> str:
        """One spelling per value: sorted keys, no spaces, ASCII."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def compute_hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_canonical_json().encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Problem:
    """One task. `solution` is a full program that passes `check`."""

    problem_id: str
    """Unique inside its benchmark, for example `HumanEval/0` or `minipy/17`."""
    prompt: str
    """Source that a base model continues: imports, signature, docstring, final newline."""
    reference: str
    """Canonical completion of `prompt`; empty where the benchmark publishes none."""
    entry_point: str
    check: Check
    group: str = "all"
    """Reported apart, for example `level-2` or `renaming`."""
    statement: str = ""
    """The task in words, where `prompt` does not hold it."""
    starter: str = ""
    """Code that the task gives to start from, where `prompt` does not hold it."""
    examples: tuple[str, ...] = ()
    """Tests that a prompt may show, where `prompt` does not hold them."""
    modules: tuple[str, ...] = ()
    """Python modules that its tests and any solution need, beside the standard library's."""
    not_judged: str = ""
    """Why no sandbox of ours can judge it; empty if one can."""
    suffix: str = ""
    """Code that follows the completion, where the task is to fill a gap."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion, where the data set names them itself."""

    @property
    def solution(self) -> str:
        """The whole reference program."""
        return self.prompt + self.reference + self.suffix


class SamplingConfig(Wire):
    """How tokens are chosen. Fields that a generator does not use must stay None."""

    max_new_tokens: int = Field(default=256, gt=0)
    temperature: float = Field(default=0.0, ge=0.0)
    block_size: int | None = Field(default=None, gt=0)
    """Tokens in one diffusion block. None for autoregressive generators."""
    threshold: float | None = Field(default=None, ge=0.0, le=1.0)
    """Commit every masked token whose probability is strictly above; 1.0 = one token a forward."""
    num_steps: int | None = Field(default=None, gt=0)
    """Denoising steps per block, fixed; another policy."""
    policy: str | None = None
    """Any other one, as `sdb_reference_model.policy_specs` writes it. Exactly one of the three for
    diffusion."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Draw among the most probable tokens that make up this share; 1.0 from all. Without meaning,
    and so always 1.0, at temperature 0."""
    batch_size: int = Field(default=1, gt=0)
    """Programs submitted at once: rows of a tensor, or requests in flight at a server."""
    seed: int = 0

    @model_validator(mode="after")
    def check_policy(self) -> Self:
        """A diffusion block needs exactly one policy; without a block there is none."""
        given = (self.threshold, self.num_steps, self.policy)
        num_policies = sum(value is not None for value in given)
        if self.block_size is None and num_policies:
            raise ValueError("threshold, num_steps and policy need a block_size; set it, drop them")
        if self.block_size is not None and num_policies != 1:
            raise ValueError(
                f"block_size={self.block_size} needs exactly one of threshold, num_steps, policy; "
                f"got threshold={self.threshold}, num_steps={self.num_steps}, policy={self.policy}"
            )
        return self

    @field_validator("policy")
    @classmethod
    def spell_policy(cls, text: str | None) -> str | None:
        """Give one policy one spelling, so that it is one cell."""
        return None if text is None else str(parse_policy(text))

    @field_validator("top_p")
    @classmethod
    def ignore_where_greedy(cls, share: float, others: ValidationInfo) -> float:
        """Nothing is drawn at temperature 0: all shares are one cell."""
        return 1.0 if others.data.get("temperature") == 0.0 else share

    @model_serializer(mode="wrap")
    def leave_out_later_fields(self, serialise: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Write fields that came later only where they are used: older cells keep their hash."""
        fields: dict[str, object] = serialise(self)
        for name, default in (("policy", None), ("top_p", 1.0)):
            if fields.get(name) == default:
                fields.pop(name, None)
        return fields


class Cell(Wire):
    """One grid point: everything that may move a number. Identity, not results."""

    benchmark: str
    """Name with options, for example `minipy:split=test,level=2`."""
    benchmark_revision: str
    """SHA-256 over the data or options that the problems come from: changed data are other cells.
    How problems become checks is counted by the judge's stage version instead."""
    num_problems: int = Field(gt=0)
    """Problems of that revision: what a complete cell has answered, whatever other cells have."""
    protocol: str
    """Prompt and extraction preset, for example `base` or `chat`."""
    generator: str
    """Generator specification as the user wrote it, for example `seed_diffusion:demo`."""
    generator_revision: str
    """Hash of weights, config and tokenizer; model name and URL for a server."""
    sampling: SamplingConfig
    samples_per_problem: int = Field(default=1, gt=0)
    precision: str = "float32"
    engine: str
    """Implementation and version that generate and, where it runs in this process, what else moves
    its speed: library, device, kernel, threads."""
    hardware: str
    """Hash of the hardware description: the same sweep on another machine is another cell."""


FinishReason = Literal["stop", "length", "refused", "error"]
"""`refused`: the model cannot read a prompt of this length. It counts as unanswered, hence wrong;
`error` is a fault of ours and counts as nothing."""


class Completion(Wire):
    """One generation with its counters and times. Seconds are relative to submission."""

    text: str
    token_ids: tuple[int, ...]
    """Committed ids up to and without the first end token; empty if the server hides them."""
    output_tokens: int = Field(ge=0)
    """Tokens up to and without the first end token: no pads, masks or rewritten duplicates."""
    finish_reason: FinishReason
    nfe_prefill: int = Field(default=0, ge=0)
    nfe_denoise: int = Field(default=0, ge=0)
    """Denoising forwards; for an autoregressive model, the decoding forwards."""
    nfe_commit: int = Field(default=0, ge=0)
    commit_times_s: tuple[float, ...] = ()
    """When each block (or token, or streamed chunk of text) became final."""
    commit_tokens: tuple[int, ...] = ()
    """How many output tokens each of those commits carried; sums to `output_tokens`. Empty beside
    known times where a server does not tell how many tokens a chunk holds."""
    e2e_s: float = Field(ge=0.0)
    """Wall time from submission to the last commit, this batch member's own."""
    error: str = ""
    """Why `finish_reason` is `refused` or `error`."""
    num_tries: int = Field(default=1, gt=0)
    """How many times its program was tested, where a failed one is asked again. Counters and times
    are then those of all replies, one after the other, those to questions back included; text and
    finish reason are the last one's."""

    @property
    def tok_s_user(self) -> float | None:
        """Output tokens per second of wall time; None where tokens or time are unknown.

        An answer of no text took its time for nothing: 0, so that a median cannot leave it out.
        """
        is_known = self.output_tokens > 0 or not self.text
        return self.output_tokens / self.e2e_s if self.e2e_s > 0 and is_known else None

    @property
    def tokens_per_forward(self) -> float | None:
        """Output tokens over all forwards but the prefill (denoise + commit)."""
        nfe = self.nfe_denoise + self.nfe_commit
        return self.output_tokens / nfe if nfe else None


class SampleRow(Wire):
    """One generated program as stored: the completion, the program that ran, the verdict."""

    schema_version: int = SCHEMA_VERSION
    cell_hash: str
    problem_id: str
    group: str
    sample_index: int = Field(ge=0)
    run_id: str
    """The `RunManifest` under which this row was generated."""
    completion: Completion
    program: str
    """The whole source that was executed, after extraction and assembly."""
    extraction_rule: str
    status: str
    """A `sdb_sandboxes.types.Status` value."""
    num_tests: int
    num_tests_passed: int
    cpu_s: float
    wall_s: float
    peak_memory_bytes: int
    trust_level: str
    sandbox_level: str
    detail: str = ""


class RunManifest(Wire):
    """Where and with what a run happened; every row points to one."""

    run_id: str
    started_at: str
    """UTC, ISO 8601."""
    command: str
    git_commit: str
    is_git_dirty: bool
    packages: dict[str, str]
    hardware: dict[str, str]
    implementations: dict[str, str]
    """What really ran: sandbox level, and `<generator>/<part>` -> attention, device, threads."""
