"""The openai generator: any server that speaks OpenAI's HTTP interface, streamed.

Place in the flow: the second stage for models that run elsewhere (vLLM, SGLang, llama.cpp, hosted
ones). `openai:http://localhost:8000/v1,model=NAME` asks `/completions` with source prompts and
`/chat/completions` with chat prompts. Answers are streamed, so commit times are the arrival times
of real chunks. Source: OpenAI's API reference (`stream`, `stream_options.include_usage`) and the
event-stream format of the HTML standard, section 9.2.

A gap to fill goes out as `prompt` and `suffix`, which vLLM refuses and SGLang takes only with
`--completion-template`; with `fim=qwen`, or another family of `fim.py`, it goes out as one prompt.

What is measured: seconds run from sending the first attempt to the last chunk of text, the network
and refused attempts included: a server could compute while it refuses. Output tokens come from the
server's `usage`. A server that reports none, or more than were asked for or than the text has
bytes (padding, say), gives 0 tokens and hence no tokens per second: chunks are not tokens.
Chunk times are recorded always, commit sizes only where they are known, see
`StreamReader.finish`.

The cell's temperature is sent, and its `top_p` where something is drawn. What a server adds on its
own is in no cell: vLLM takes top-k and penalties from the model's `generation_config.json` unless
it is started with `--generation-config vllm`.

What it does not do: count forwards or show token ids (a server tells neither), or take a key from
elsewhere than the environment; keys are neither stored nor shown.

The load on the server is the cell's `batch_size`: that many requests are sent at once, and the next
ones when all have ended. `concurrency=8` is the short way to ask for a batch of at least 8.
"""

import itertools
import json
import os
import random
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from sdb_harness.benchmarks import Gap
from sdb_harness.errors import UserError, name_nearest
from sdb_harness.generators import Prompted
from sdb_harness.generators.fim import FORMATS, write_gap
from sdb_harness.records import Completion, FinishReason, SamplingConfig

_NUM_ATTEMPTS = 6
_NUM_WARM_UP_ATTEMPTS = 2
_BACKOFF_S = 0.5
_MAX_DELAY_S = 60.0
"""Longest wait between two attempts; a server that asks for more is given up at once."""
_TIMEOUT = httpx.Timeout(connect=10.0, read=300.0, write=60.0, pool=None)

_MAX_BODY_BYTES = 64 << 10
"""How much of an error reply is read."""
_MAX_EVENT_BYTES = 8 << 20
"""Longest line of a stream; a chunk of text is a thousandth of that."""

Payload = dict[str, Any]
"""A JSON object, ours to send or the server's to check."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What the text after `openai:` says."""

    url: str
    """Base URL without a final slash, usually ending in `/v1`."""
    model: str
    api: str | None = None
    """`chat` or `completions`; None lets the protocol's kind of prompt decide."""
    concurrency: int = 1
    """Requests at once at the least; a sweep's larger `batch_size` wins."""
    can_prefill: bool = False
    """The server continues a last assistant turn (`continue_final_message` of vLLM and SGLang)."""
    is_usage_per_chunk: bool = False
    """Ask for running token counts (`continuous_usage_stats` of vLLM and SGLang)."""
    fim: str | None = None
    """Family of `fim.FORMATS` whose tokens write a gap; None sends it as `prompt` and `suffix`."""
    max_stops: int | None = None
    """Send at most this many stop strings (OpenAI's servers take 4); extraction cuts the rest."""
    key: str | None = field(default=None, repr=False)


def load(argument: str) -> "OpenAIGenerator":
    """Open `URL,model=NAME` with the options of `ServerOptions`.

    They are `api=chat|completions`, `concurrency=8`, `prefill=yes`, `usage=per_chunk`,
    `fim=qwen`, `max_stops=4` and `key_env=NAME`, all separated by commas. The key is read from
    `OPENAI_API_KEY`, or from the variable that `key_env` names; without one, requests carry none.
    Nothing is sent yet.

    Raises:
        UserError: malformed URL or option, or `key_env` names a variable that is not set.
    """
    return OpenAIGenerator(parse_options(argument, os.environ))


def parse_options(argument: str, environ: Mapping[str, str]) -> ServerOptions:
    """Read the argument; see `load`.

    Raises:
        UserError: as `load`.
    """
    url, *parts = (part.strip() for part in argument.split(","))
    options = dict[str, str]()
    allowed = ("model", "api", "concurrency", "prefill", "usage", "fim", "max_stops", "key_env")
    for part in parts:
        key, separator, value = part.partition("=")
        if key not in allowed:
            raise UserError(f"openai: unknown option {key!r}; {name_nearest(key, allowed)}")
        if not separator or not value or key in options:
            raise UserError(f"openai: cannot read {part!r}; write each option once as key=value")
        options[key] = value
    if "model" not in options:
        raise UserError(f"openai: no model given; write openai:{check_url(url)},model=NAME")
    return ServerOptions(
        url=check_url(url),
        model=options["model"],
        api=_choose(options, "api", ("chat", "completions")),
        concurrency=_read_count(options, "concurrency") or 1,
        can_prefill=_choose(options, "prefill", ("yes", "no")) == "yes",
        is_usage_per_chunk=_choose(options, "usage", ("final", "per_chunk")) == "per_chunk",
        fim=_choose(options, "fim", tuple(FORMATS)),
        max_stops=_read_count(options, "max_stops"),
        key=_find_key(options.get("key_env"), environ),
    )


def check_url(text: str) -> str:
    """Return the base URL without its final slash.

    Raises:
        UserError: not an http(s) URL, or one with a password or query, which rows would store.
    """
    example = "write for example http://localhost:8000/v1"
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise UserError(f"openai: {text!r} is not a URL ({error}); {example}") from error
    if url.userinfo or url.query or url.fragment:
        raise UserError(
            f"openai: the URL of host {url.host!r} carries a password, query or fragment, and URLs "
            "are stored; put keys into an environment variable and name it with key_env=NAME"
        )
    if url.scheme not in ("http", "https") or not url.host:
        raise UserError(f"openai: {text!r} is not an http or https URL; {example}")
    return text.rstrip("/")


def _choose(options: Mapping[str, str], key: str, allowed: tuple[str, ...]) -> str | None:
    value = options.get(key)
    if value is not None and value not in allowed:
        raise UserError(f"openai: {key}={value} is not known; {name_nearest(value, allowed)}")
    return value


def _read_count(options: Mapping[str, str], key: str) -> int | None:
    value = options.get(key)
    if value is None:
        return None
    if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= 1024:
        raise UserError(f"openai: {key}={value} must be a whole number from 1 to 1024")
    return int(value)


def _find_key(key_env: str | None, environ: Mapping[str, str]) -> str | None:
    key = environ.get(key_env or "OPENAI_API_KEY", "").strip() or None
    if key_env and key is None:
        raise UserError(f"openai: the environment variable {key_env} is not set; export it")
    return key


class _Refused(Exception):
    """The server will not answer this request, however often it is asked."""


class _Failed(Exception):
    """This attempt failed, another one may not."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class OpenAIGenerator:
    """Streams completions from one server, several at once."""

    def __init__(self, options: ServerOptions, backoff_s: float = _BACKOFF_S) -> None:
        """Prepare a client; nothing is sent yet.

        Args:
            options: Server, model and limits.
            backoff_s: Wait before the second attempt, doubled for each further one.
        """
        self._options = options
        self._backoff_s = backoff_s
        self._is_down = False
        self.revision = f"{options.model}@{options.url}"
        self.engine = "openai-api"
        self.precision = "unknown"
        self.min_batch_size = options.concurrency
        self.implementations: dict[str, str] = {"generator": "remote server, OpenAI interface"}
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {options.key}"} if options.key else {},
            timeout=_TIMEOUT,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        )

    def warm_up(self, problems: Sequence[Prompted], sampling: SamplingConfig) -> None:
        """Send the prompts once: opens the connections and shows whether the server answers.

        Raises:
            UserError: the server cannot be reached, refuses, or does not stream; or `sampling` or
                the prompts do not fit.
        """
        for _, completion in self._generate(problems, sampling, _NUM_WARM_UP_ATTEMPTS):
            if completion.finish_reason == "error":
                raise UserError(f"openai: {completion.error}")

    def generate(
        self, batch: Sequence[Prompted], sampling: SamplingConfig
    ) -> Iterator[tuple[int, Completion]]:
        """Yield (position, completion) as each request ends.

        Rate limits, server errors, lost connections and cut streams are retried with exponential
        backoff, `Retry-After` honoured; what still fails is yielded with `finish_reason="error"`.

        Raises:
            UserError: `sampling` or the kind of prompt does not fit this server.
        """
        return self._generate(batch, sampling, _NUM_ATTEMPTS)

    def close(self) -> None:
        """Close the connections. May be called twice."""
        self._client.close()

    def _generate(
        self, batch: Sequence[Prompted], sampling: SamplingConfig, num_attempts: int
    ) -> Iterator[tuple[int, Completion]]:
        requests = [build_request(self._options, prompted, sampling) for prompted in batch]
        if not requests:
            return
        is_abandoned = threading.Event()
        pool = ThreadPoolExecutor(max_workers=sampling.batch_size)
        try:
            positions = {
                pool.submit(self._complete, path, payload, num_attempts, is_abandoned): position
                for position, (path, payload) in enumerate(requests)
            }
            for future in as_completed(positions):
                yield positions[future], future.result()
        finally:
            # Also after Ctrl-C or a caller that stops early: no request starts or goes on unread.
            is_abandoned.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _complete(
        self, path: str, payload: Payload, num_attempts: int, is_abandoned: threading.Event
    ) -> Completion:
        """One completion with retries; a failure is returned as a completion, never raised."""
        started = time.perf_counter()
        reason = ""
        if self._is_down:
            num_attempts = 1  # an earlier request gave up: do not spend its patience on each
        for attempt in range(1, num_attempts + 1):
            try:
                completion = self._stream_once(path, payload, is_abandoned, started)
                self._is_down = False
                return completion
            except _Refused as error:
                reason = str(error)
                if "suffix" in payload:
                    reason += f"; a server that takes no suffix needs fim={'|'.join(FORMATS)}"
                break
            except _Failed as error:
                reason = f"{error} ({attempt} of {num_attempts} attempts)"
                delay_s = choose_delay_s(attempt, error.retry_after_s, self._backoff_s)
            except httpx.RequestError as error:
                reason = (
                    f"cannot talk to {self._options.url}: {str(error) or type(error).__name__} "
                    f"({attempt} of {num_attempts} attempts); is the server running?"
                )
                delay_s = choose_delay_s(attempt, None, self._backoff_s)
            if delay_s is None or attempt == num_attempts:
                self._is_down = True
                break
            if is_abandoned.wait(delay_s):
                break
        return Completion(
            text="",
            token_ids=(),
            output_tokens=0,
            finish_reason="error",
            e2e_s=time.perf_counter() - started,
            error=self._hide_key(reason),
        )

    def _stream_once(
        self, path: str, payload: Payload, is_abandoned: threading.Event, started: float
    ) -> Completion:
        """Send one request and read its stream to the end; times count from `started`."""
        url = self._options.url + path
        with self._client.stream("POST", url, json=payload) as response:
            check_response(response)
            reader = StreamReader(started)
            for data in parse_events(response.iter_bytes()):
                if is_abandoned.is_set():
                    raise _Refused("abandoned by the caller")
                reader.read(data)
        completion = reader.finish(payload["max_tokens"])
        self.implementations["server"] = response.headers.get("server", "unnamed")
        if reader.usage_tokens is None:
            self.implementations["output_tokens"] = "not reported"
        elif completion.text and not completion.output_tokens:
            self.implementations["output_tokens"] = "usage reported by the server, not all possible"
        else:
            self.implementations.setdefault("output_tokens", "usage reported by the server")
        return completion

    def _hide_key(self, text: str) -> str:
        """A server may quote the key that it refuses."""
        return text.replace(self._options.key, "[key]") if self._options.key else text


def build_request(
    options: ServerOptions, prompted: Prompted, sampling: SamplingConfig
) -> tuple[str, Payload]:
    """Path below the base URL, and the JSON body, of one request.

    Raises:
        UserError: a diffusion setting is given, or the prompt's kind does not fit `api`/`prefill`.
    """
    if sampling.block_size is not None:
        raise UserError(
            f"openai: block_size={sampling.block_size} cannot be sent to a server; drop "
            "block_size, threshold, num_steps and policy from the grid of this generator"
        )
    payload: Payload = {
        "model": options.model,
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "seed": prompted.seed,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if options.is_usage_per_chunk:
        payload["stream_options"]["continuous_usage_stats"] = True
    if sampling.temperature > 0.0:
        payload["top_p"] = sampling.top_p  # 1.0 too: a server's own default may be another one
    if stop := prompted.stop[: options.max_stops]:
        payload["stop"] = list(stop)
    prompt = prompted.prompt
    kind = "completions" if isinstance(prompt, str | Gap) else "chat"
    if options.api not in (None, kind):
        raise UserError(
            f"openai: api={options.api} does not fit this protocol, whose prompts are made for "
            f"{kind}; choose another protocol or api={kind}"
        )
    if isinstance(prompt, str):
        return "/completions", {**payload, "prompt": prompt}
    if isinstance(prompt, Gap):
        if options.fim is not None:
            return "/completions", {**payload, "prompt": write_gap(options.fim, prompt)}
        gap = {"prompt": prompt.prefix, "suffix": prompt.suffix}
        return "/completions", payload | gap
    payload["messages"] = [{"role": role, "content": content} for role, content in prompt]
    if prompt[-1].role == "assistant":
        if not options.can_prefill:
            raise UserError(
                "openai: this protocol prefills the answer, which only some servers continue "
                "(vLLM, SGLang); add prefill=yes for those, or choose another protocol"
            )
        payload |= {"continue_final_message": True, "add_generation_prompt": False}
    return "/chat/completions", payload


def choose_delay_s(attempt: int, retry_after_s: float | None, backoff_s: float) -> float | None:
    """Seconds to wait after failed attempt number `attempt` (from 1), or None to give up.

    Without `retry_after_s`, the wait doubles with each attempt and is shortened by up to half at
    random, so that many clients do not come back at once.
    """
    if retry_after_s is not None:
        return retry_after_s if retry_after_s <= _MAX_DELAY_S else None
    delay_s = min(_MAX_DELAY_S, backoff_s * 2.0 ** (attempt - 1))
    return delay_s * random.uniform(0.5, 1.0)


def check_response(response: httpx.Response) -> None:
    """Accept only an event stream.

    Raises:
        _Failed: 408, 429 or 5xx, with the server's `Retry-After`.
        _Refused: any other status, or a body that is not an event stream.
    """
    status, where = response.status_code, str(response.request.url)
    content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if status == 200 and content_type == "text/event-stream":
        return
    what = summarize_body(read_start(response), content_type)
    if status in (408, 429) or status >= 500:
        retry_after_s = parse_retry_after_s(response.headers.get("retry-after"))
        wait = "" if retry_after_s is None else f", asks to wait {retry_after_s:.0f} s"
        raise _Failed(f"{where} answered {status}{wait}: {what}", retry_after_s)
    if status != 200:
        raise _Refused(f"{where} answered {status}: {what}")
    raise _Refused(
        f"{where} answered {content_type or 'no content type'} instead of an event stream: {what}; "
        "check that the URL is the API's base (it usually ends in /v1)"
    )


def read_start(response: httpx.Response) -> str:
    """The first part of a body, as text: a page without end must not fill our memory."""
    start = b""
    for chunk in response.iter_bytes():
        start += chunk
        if len(start) >= _MAX_BODY_BYTES:
            break
    return start[:_MAX_BODY_BYTES].decode("utf-8", errors="replace")


def summarize_body(text: str, content_type: str) -> str:
    """One short line about an error reply: its message if it is JSON, never a page of HTML."""
    if content_type == "text/html" or text.lstrip()[:1] == "<":
        return "an HTML page"
    try:
        reply = json.loads(text)
    except ValueError:
        reply = None
    if isinstance(reply, dict):
        error = reply.get("error", reply)
        message = error.get("message", error.get("detail")) if isinstance(error, dict) else error
        text = message if isinstance(message, str) else text
    return " ".join(text.split())[:300] or "an empty body"


def parse_retry_after_s(value: str | None) -> float | None:
    """Seconds a `Retry-After` header asks for: a number or an HTTP date; None if unreadable."""
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def parse_events(chunks: Iterable[bytes]) -> Iterator[str]:
    """The `data` of each event of a stream, whatever pieces it arrives in.

    Comments and other fields are skipped, and an event that is not ended by an empty line is
    dropped, as the standard asks. Lines end in LF or CRLF; a lone CR is not used by any server.
    httpx's own line iterator is not used: it also splits at U+2028, which JSON may hold.

    Raises:
        _Refused: a line without end.
    """
    pending = b""
    data_lines: list[bytes] = []
    for chunk in chunks:
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                data_lines.append(line[5:].removeprefix(b" "))
            elif not line and data_lines:
                yield b"\n".join(data_lines).decode("utf-8", errors="replace")
                data_lines = []
        if len(pending) > _MAX_EVENT_BYTES:
            raise _Refused(f"the stream holds a line of more than {_MAX_EVENT_BYTES} bytes")


def join_surrogates(text: str) -> str:
    """Join the halves of characters that JSON escapes in two chunks; a lone half becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_NOT_A_CHUNK = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
"""What an event that is no completion chunk may raise while it is read; the last two come from
numbers such as 1e999 and from thousands of nested brackets."""


class StreamReader:
    """Collects the events of one stream into a `Completion`."""

    def __init__(self, started: float) -> None:
        self.usage_tokens: int | None = None
        self._started = started
        self._texts: list[str] = []
        self._times_s: list[float] = []
        self._counts: list[int | None] = []  # tokens so far at each chunk of text, if said there
        self._finish_reason: str | None = None

    def read(self, data: str) -> None:
        """Take one event.

        Raises:
            _Failed: the server reports an error inside the stream.
            _Refused: the event is not a completion chunk.
        """
        if data == "[DONE]":
            return
        now_s = time.perf_counter() - self._started
        try:
            chunk = json.loads(data)
            if error := chunk.get("error"):
                raise _Failed(f"error inside the stream: {summarize_body(json.dumps(error), '')}")
            count: int | None = None
            if usage := chunk.get("usage"):
                count = self.usage_tokens = max(0, int(usage["completion_tokens"]))
            for choice in chunk.get("choices", ()):
                text = choice["text"] if "text" in choice else choice["delta"].get("content")
                if text:
                    if not isinstance(text, str):
                        raise TypeError(f"text is a {type(text).__name__}")
                    self._texts.append(text)
                    self._times_s.append(now_s)
                    self._counts.append(count)
                if finish_reason := choice.get("finish_reason"):
                    self._finish_reason = str(finish_reason)
        except _NOT_A_CHUNK as error:
            shown = " ".join(data.split())[:120]
            raise _Refused(f"the stream is not made of completion chunks: {shown}") from error

    def finish(self, max_tokens: int) -> Completion:
        """Close the books at the end of the stream.

        A count above `max_tokens`, or above the bytes of the text and an end token, is no count of
        this answer's tokens, and is taken as unknown.

        Commit sizes are known where every chunk of text carries a running count (what follows the
        last of them is the end token or a stop string), or where there are as many chunks as
        tokens. If a stream that ended by itself has one chunk fewer than tokens, the odd token is
        the end token, which is not output. Else the sizes stay unknown, and only the times of the
        chunks are recorded.

        Raises:
            _Failed: the stream was cut before the server gave a finish reason.
            _Refused: the server stopped for another reason than the end or the length.
        """
        reasons: dict[str, FinishReason] = {"stop": "stop", "length": "length"}
        num_chunks = len(self._texts)
        if self._finish_reason is None:
            raise _Failed(f"the stream was cut after {num_chunks} chunks of text")
        if self._finish_reason not in reasons:
            raise _Refused(f"the server stopped with finish_reason {self._finish_reason!r}")
        num_tokens = self.usage_tokens or 0
        counts = [count for count in self._counts if count is not None]
        sizes: tuple[int, ...] = ()
        if num_chunks and len(counts) == num_chunks and counts == sorted(counts):
            sizes = tuple(after - before for before, after in itertools.pairwise([0, *counts]))
        elif num_chunks and num_tokens - num_chunks in (0, self._finish_reason == "stop"):
            sizes = (1,) * num_chunks
        end_s = self._times_s[-1] if self._times_s else time.perf_counter() - self._started
        text = join_surrogates("".join(self._texts))
        output_tokens = sum(sizes) if sizes else num_tokens
        if output_tokens > min(max_tokens, len(text.encode()) + 1):
            output_tokens, sizes = 0, ()
        return Completion(
            text=text,
            token_ids=(),
            output_tokens=output_tokens,
            finish_reason=reasons[self._finish_reason],
            commit_times_s=tuple(self._times_s),
            commit_tokens=sizes,
            e2e_s=end_s,
        )
