r"""Our generators as a model of lm-evaluation-harness, named `sdbench`.

Place in the flow: run lm-eval through this module, which registers the model and hands over:

    python -m sdb_harness.plugins.lm_eval_model --model sdbench \
        --model_args generator=seed_diffusion:demo,block_size=4,threshold=0.9 --tasks humaneval

Tasks of kind `generate_until` are answered. With `--apply_chat_template` the turns go to the
generator, which must know chats (`openai:`, `transformers:`); a task's `gen_prefix` is the start of
the answer. What it does not do: likelihoods. A masked diffusion
model has no chain of token probabilities, so tasks that need them are refused by name.
"""

import json
from collections.abc import Sequence
from typing import Any

from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from sdb_harness.benchmarks import ChatMessage
from sdb_harness.plugins.text_model import SETTINGS, Request, TextModel

DEFAULT_LENGTH = 256
"""New tokens where a task names no number."""


class Chat(str):
    """Turns of a conversation as JSON: lm-eval takes, prints and hashes contexts as text."""


@register_model("sdbench")
class SdbenchModel(LM):  # type: ignore[misc]
    """Answers `generate_until` with one of our generators."""

    def __init__(self, generator: str, **settings: Any) -> None:
        """Open the generator.

        Args:
            generator: As `sdbench run --generator` spells it, without commas.
            settings: Rows of `text_model.SETTINGS`; what lm-eval adds on its own is ignored.
        """
        super().__init__()
        self.name = generator
        ours = {key: value for key, value in settings.items() if key in SETTINGS}
        self.text_model = TextModel(generator, {k: v for k, v in ours.items() if v is not None})

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Write one text for each request, cut at its stop strings."""
        return [one.text for one in self.text_model.write([read_request(r) for r in requests])]

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> Chat:
        """Keep the turns as they are: the generator's server or tokenizer has the template.

        A last turn of the assistant is continued, as `add_generation_prompt=False` asks.
        """
        return Chat(json.dumps(chat_history, ensure_ascii=False))

    @property
    def tokenizer_name(self) -> str:
        """Tells cached requests of several models apart; part of a file's name."""
        return self.name.replace("/", "__")

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> Any:
        """Refused."""
        raise NotImplementedError(
            "sdbench gives texts and no likelihoods; choose tasks of output_type generate_until"
        )

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> Any:
        """Refused."""
        return self.loglikelihood(requests)


def read_request(request: Any) -> Request:
    """One of lm-eval's instances as a request of ours."""
    context, given = request.args
    until = given.get("until") or []
    is_sampled = bool(given.get("do_sample", float(given.get("temperature") or 0.0) > 0.0))
    return Request(
        prompt=read_turns(context) if isinstance(context, Chat) else str(context),
        stop=(until,) if isinstance(until, str) else tuple(until),
        max_new_tokens=int(given.get("max_gen_toks") or DEFAULT_LENGTH),
        temperature=float(given.get("temperature") or 1.0) if is_sampled else 0.0,
        top_p=None if given.get("top_p") is None else float(given["top_p"]),
    )


def read_turns(chat: Chat) -> tuple[ChatMessage, ...]:
    """The turns that `apply_chat_template` wrote."""
    return tuple(ChatMessage(turn["role"], turn["content"]) for turn in json.loads(chat))


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
