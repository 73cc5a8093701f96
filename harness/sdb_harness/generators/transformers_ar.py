"""Any causal language model of the hub or of a folder, `transformers:Qwen/Qwen2.5-Coder-7B`.

Place in the flow: the second stage for autoregressive models that `transformers` knows. A batch
runs as one tensor, padded on the left. Source prompts are continued, chats go through the
tokenizer's own chat template (a last assistant turn is continued), a gap is written with the
tokenizer's fill-in-the-middle tokens. Options behind the name, separated by commas: `revision`,
`dtype` (`auto`, `float32`, `bfloat16`, `float16`), `device`, `trust_remote_code` (`no`, `yes`).

Sampling is the argmax of scores plus Gumbel noise from a generator of each row's own seed, which is
sampling from the softmax whatever runs beside it; temperature 0 adds no noise, `top_p` leaves the
nucleus. A model's shipped defaults (top-p, repetition penalty) are not used, so that all models are
decoded alike.

Safety: only safetensors are read, and no code of a checkpoint is run unless `trust_remote_code=yes`
stands behind its name: then its Python runs on this machine, unsandboxed, and the record says so.
What it does not do: several devices, quantised weights, speculative decoding; serve such models and
use `openai:`.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError

from sdb_harness.benchmarks import Gap, Prompt
from sdb_harness.errors import UserError, name_nearest
from sdb_harness.generators import Prompted
from sdb_harness.generators.fim import FORMATS, find_family, write_gap
from sdb_harness.records import Completion, FinishReason, SamplingConfig
from sdb_reference_model.selection import find_outsiders

WARM_UP_CALLS = 2
DTYPES = ("auto", "float32", "bfloat16", "float16")


def load(argument: str) -> "TransformersModel":
    """Open `ID_OR_FOLDER` with the options of the module's docstring.

    Raises:
        UserError: `transformers` is not installed, or an unknown option or value.
        OSError, ValueError: the model cannot be found or read, from `transformers`.
    """
    if find_spec("transformers") is None:
        raise UserError(
            "the transformers generator needs one more package; "
            "pip install seed-diffusion-bench[transformers]"
        )
    name, *parts = (part.strip() for part in argument.split(","))
    options = {"revision": "main", "dtype": "auto", "device": "", "trust_remote_code": "no"}
    for part in parts:
        key, separator, value = part.partition("=")
        if key not in options:
            raise UserError(f"transformers: unknown option {key!r}; {name_nearest(key, options)}")
        if not separator or not value:
            raise UserError(f"transformers: cannot read {part!r}; write key=value")
        options[key] = value
    if name.startswith(("/", ".", "~")) and not Path(name).expanduser().is_dir():
        raise UserError(
            f"transformers: no folder {name}; name a model's folder or its id on the hub"
        )
    for key, allowed in (("dtype", DTYPES), ("trust_remote_code", ("no", "yes"))):
        if options[key] not in allowed:
            raise UserError(
                f"transformers: {key}={options[key]}; {name_nearest(options[key], allowed)}"
            )
    return TransformersModel(name, options)


class TransformersModel:
    """A loaded causal model and its tokenizer."""

    def __init__(self, name: str, options: Mapping[str, str]) -> None:
        """Load to the given device, else to the first GPU, else to the processor.

        Raises:
            OSError, ValueError: it cannot be found or read.
        """
        transformers: Any = import_module("transformers")  # slow, and untyped in places
        folder = Path(name).expanduser()
        is_local = folder.is_dir()
        source = str(folder) if is_local else name
        is_trusted = options["trust_remote_code"] == "yes"
        shared: dict[str, Any] = {"trust_remote_code": is_trusted}
        if not is_local:
            shared["revision"] = options["revision"]
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(source, **shared)
        self.model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            source, dtype=options["dtype"], use_safetensors=True, **shared
        ).eval()
        automatic = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(options["device"] or automatic)
        self.model.to(self.device)
        self.end_ids = find_end_ids(self.model, self.tokenizer)
        hub_commit = getattr(self.model.config, "_commit_hash", None)
        self.revision = hash_folder(folder) if is_local else f"{name}@{hub_commit}"
        attention = str(getattr(self.model.config, "_attn_implementation", "unknown"))
        num_threads = torch.get_num_threads()
        self.engine = (
            f"transformers/{version('transformers')} torch/{torch.__version__} {self.device} "
            f"attention={attention} threads={num_threads}"
        )
        self.precision = str(self.model.dtype).removeprefix("torch.")
        self.min_batch_size = 1
        self.implementations = {
            "attention": attention,
            "device": str(self.device),
            "threads": str(num_threads),
            "trust_remote_code": options["trust_remote_code"],
        }

    def warm_up(self, problems: Sequence[Prompted], sampling: SamplingConfig) -> None:
        """Run a few whole generations, whose output and times are thrown away."""
        for _ in range(WARM_UP_CALLS):
            list(self.generate(problems, sampling))

    def generate(
        self, batch: Sequence[Prompted], sampling: SamplingConfig
    ) -> Iterator[tuple[int, Completion]]:
        """Generate the whole batch as one tensor; each member carries its own times.

        A prompt that leaves no room for the answer is refused: an unanswered problem of this
        model, not a fault of ours.

        Raises:
            UserError: a chat without a chat template, or a gap without fill-in-the-middle tokens.
        """
        started_s = time.perf_counter()
        prompts = [encode_prompt(self.tokenizer, prompted.prompt) for prompted in batch]
        limit = getattr(self.model.config, "max_position_embeddings", None)
        room = (limit or 1 << 60) - sampling.max_new_tokens
        encode_s = time.perf_counter() - started_s
        fitting = [i for i, ids in enumerate(prompts) if 0 < len(ids) <= room]
        for position in set(range(len(prompts))) - set(fitting):
            yield position, refuse(len(prompts[position]), room, encode_s)
        if fitting:
            rows = [(prompts[i], batch[i]) for i in fitting]
            for position, completion in zip(
                fitting, self._generate_rows(rows, sampling, started_s), strict=True
            ):
                yield position, completion

    def close(self) -> None:
        """Nothing outside this process is held."""

    @torch.inference_mode()
    def _generate_rows(
        self,
        rows: Sequence[tuple[list[int], Prompted]],
        sampling: SamplingConfig,
        started_s: float,
    ) -> list[Completion]:
        transformers: Any = import_module("transformers")
        width = max(len(ids) for ids, _ in rows)
        pad_id = self.end_ids[0] if self.end_ids else 0
        ids = torch.tensor([[pad_id] * (width - len(row)) + row for row, _ in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row, _ in rows])
        recorder = Recorder(self, [row for row, _ in rows], [p.stop for _, p in rows], started_s)
        seeds = [prompted.seed for _, prompted in rows]
        self.model.generate(
            input_ids=ids.to(self.device),
            attention_mask=mask.to(self.device),
            generation_config=transformers.GenerationConfig(
                max_new_tokens=sampling.max_new_tokens,
                do_sample=False,
                pad_token_id=pad_id,
                eos_token_id=list(self.end_ids) or None,
            ),
            logits_processor=transformers.LogitsProcessorList(
                [make_sampler(sampling.temperature, sampling.top_p, seeds)]
            ),
            stopping_criteria=transformers.StoppingCriteriaList([recorder]),
        )
        return [recorder.build_completion(row) for row in range(len(rows))]


def make_sampler(temperature: float, top_p: float, seeds: Sequence[int]) -> Any:
    """Scores whose argmax is a sample of softmax(scores / temperature), by each row's own seed.

    With `top_p` below 1, of its most probable tokens that make up this share.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def add_noise(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if temperature == 0.0:
            return scores
        # scores: [B, V]. An exponential variate e is -log(uniform), so -log(e) is Gumbel noise.
        noise = torch.stack(
            [torch.empty(scores.shape[1]).exponential_(generator=one) for one in generators]
        )
        scaled = scores.float() / temperature
        if top_p < 1.0:
            scaled = scaled.masked_fill(find_outsiders(scaled, top_p), -torch.inf)
        return scaled - noise.to(scores.device).log()

    return add_noise


class Recorder:
    """Called after every step: notes when each row's tokens came, and ends rows at stop strings."""

    def __init__(
        self,
        loaded: TransformersModel,
        prompts: Sequence[list[int]],
        stops: Sequence[tuple[str, ...]],
        started_s: float,
    ) -> None:
        self.tokenizer, self.end_ids = loaded.tokenizer, set(loaded.end_ids)
        self.prompts, self.stops, self.started_s = prompts, stops, started_s
        self.tokens: list[list[int]] = [[] for _ in prompts]
        self.times_s: list[list[float]] = [[] for _ in prompts]
        self.reasons: list[FinishReason] = ["length" for _ in prompts]

    def __call__(self, input_ids: torch.Tensor, scores: Any, **ignored: Any) -> torch.Tensor:
        """Take the newest token of each row; true where a row has ended. input_ids: [B, L]."""
        newest = input_ids[:, -1].tolist()  # waits for the device
        now_s = time.perf_counter() - self.started_s
        for row, token in enumerate(newest):
            if self.reasons[row] == "stop":
                continue
            self.times_s[row].append(now_s)
            if token in self.end_ids:
                self.reasons[row] = "stop"
                continue
            self.tokens[row].append(token)
            if self._holds_stop(row):
                self.reasons[row] = "stop"
        return torch.tensor([reason == "stop" for reason in self.reasons], device=input_ids.device)

    def _holds_stop(self, row: int) -> bool:
        """Whether a stop string stands at the end; a token holds at least one byte of it."""
        longest = max((len(stop.encode()) for stop in self.stops[row]), default=0)
        if not longest:
            return False
        end = self.tokenizer.decode(self.tokens[row][-longest - 1 :])
        return any(stop in end for stop in self.stops[row] if stop)

    def build_completion(self, row: int) -> Completion:
        """The record of a row. The first token comes from the prefill, each other from a step.

        The step that gave the end token took its time and carries no output.
        """
        tokens, times_s = self.tokens[row], self.times_s[row]
        num_ends = len(times_s) - len(tokens)
        return Completion(
            text=decode_answer(self.tokenizer, self.prompts[row], tokens),
            token_ids=tuple(tokens),
            output_tokens=len(tokens),
            finish_reason=self.reasons[row],
            nfe_prefill=1,
            nfe_denoise=len(times_s) - 1,
            commit_times_s=tuple(times_s),
            commit_tokens=(1,) * len(tokens) + (0,) * num_ends,
            e2e_s=times_s[-1],
        )


def encode_prompt(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Token ids of a prompt, with the tokens that the tokenizer itself puts in front.

    Raises:
        UserError: the tokenizer has no chat template or one that refuses the turns, or no
            fill-in-the-middle tokens.
    """
    if isinstance(prompt, Gap):
        family = find_family(tokenizer.get_vocab())
        if family is None:
            raise UserError(
                "transformers: this tokenizer has no fill-in-the-middle tokens that we know "
                f"({', '.join(FORMATS)}), so the model cannot see a suffix; use seed_diffusion, or "
                "a model trained to fill"
            )
        return list(tokenizer(write_gap(family, prompt))["input_ids"])
    if isinstance(prompt, str):
        return list(tokenizer(prompt)["input_ids"])
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            "transformers: this tokenizer has no chat template, so it is a base model; choose a "
            "protocol that continues source, such as base"
        )
    is_open = prompt[-1].role == "assistant"
    try:
        text = tokenizer.apply_chat_template(
            [{"role": turn.role, "content": turn.content} for turn in prompt],
            tokenize=False,
            add_generation_prompt=not is_open,
            continue_final_message=is_open,
        )
    except TemplateError as error:
        roles = " ".join(turn.role for turn in prompt)
        raise UserError(
            f"transformers: this tokenizer's chat template refuses the turns {roles}: {error}; "
            "choose another protocol"
        ) from None
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])  # the template wrote them


def decode_answer(tokenizer: Any, prompt: list[int], tokens: list[int]) -> str:
    """Text of the new tokens as it continues the prompt.

    Some tokenizers drop a leading space of what they decode, so both are decoded and the prompt's
    part is cut off.
    """
    settings = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    before = str(tokenizer.decode(prompt, **settings))
    whole = str(tokenizer.decode(prompt + tokens, **settings))
    if whole.startswith(before):
        return whole[len(before) :]
    return str(tokenizer.decode(tokens, **settings))


def find_end_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Every token that ends an answer, as the model's and the tokenizer's files name them."""
    named = getattr(model.generation_config, "eos_token_id", None)
    ids = [*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id]
    return tuple(dict.fromkeys(int(one) for one in ids if one is not None))


def hash_folder(folder: Path) -> str:
    """SHA-256 over the names and contents of a checkpoint's files."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file():
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def refuse(prompt_tokens: int, room: int, encode_s: float) -> Completion:
    """The record of a prompt that is longer than the model can read, or empty."""
    return Completion(
        text="",
        token_ids=(),
        output_tokens=0,
        finish_reason="refused",
        e2e_s=encode_s,
        error=f"a prompt of {prompt_tokens} tokens; this model leaves room for 1 to {room}",
    )
