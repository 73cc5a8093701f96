"""Our generators as a model provider of inspect_ai: `--model sdbench/seed_diffusion:demo`.

Place in the flow: inspect_ai finds it by the entry point of this distribution. A base model gets
the texts of the messages one below the other; `-M chat=true` sends the turns to a generator that
knows chats. Other `-M` arguments are those of `text_model.SETTINGS`; `--seed` and `--top-p` go
before them. What it does not do: tools.
"""

import asyncio
from typing import Any

from inspect_ai.model import GenerateConfig, ModelAPI, ModelOutput, ModelUsage, modelapi

from sdb_harness.benchmarks import ChatMessage, Prompt
from sdb_harness.plugins.text_model import Request, TextModel

DEFAULT_LENGTH = 256


@modelapi(name="sdbench")
class SdbenchAPI(ModelAPI):  # type: ignore[misc]
    """One generator behind inspect_ai's interface; requests run one after the other."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: Any = None,
        chat: bool = False,
        **settings: Any,
    ) -> None:
        """Open the generator that `model_name` spells as `sdbench run --generator` does."""
        super().__init__(model_name, base_url, api_key, [], config or GenerateConfig())
        self.is_chat = chat
        self.text_model = TextModel(model_name, settings)
        self.lock = asyncio.Lock()

    async def generate(self, input: Any, tools: Any, tool_choice: Any, config: Any) -> Any:
        """Answer one conversation."""
        request = Request(
            prompt=build_prompt(input, is_chat=self.is_chat),
            stop=tuple(config.stop_seqs or ()),
            max_new_tokens=config.max_tokens or DEFAULT_LENGTH,
            temperature=config.temperature or 0.0,
            top_p=config.top_p,
            seed=config.seed,
        )
        async with self.lock:
            (completion,) = await asyncio.to_thread(self.text_model.write, [request])
        is_cut = completion.finish_reason == "length"
        output = ModelOutput.from_content(
            self.model_name, completion.text, "max_tokens" if is_cut else "stop"
        )
        output.usage = ModelUsage(
            output_tokens=completion.output_tokens, total_tokens=completion.output_tokens
        )
        return output

    def max_connections(self) -> int:
        """One: the model is in this process."""
        return 1


def build_prompt(messages: Any, *, is_chat: bool) -> Prompt:
    """A conversation as a chat, or as one text to continue."""
    if is_chat:
        return tuple(ChatMessage(message.role, message.text) for message in messages)
    return "\n".join(message.text for message in messages)
