"""The openai generator against a real HTTP server on this machine, well and badly behaved."""

import contextlib
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from sdb_harness.benchmarks import ChatMessage, Gap, Prompt
from sdb_harness.cli import main
from sdb_harness.errors import UserError
from sdb_harness.generators import Prompted, load_generator, openai_api
from sdb_harness.generators.openai_api import (
    OpenAIGenerator,
    ServerOptions,
    StreamReader,
    _Failed,
    _Refused,
    build_request,
    choose_delay_s,
    parse_events,
    parse_options,
    parse_retry_after_s,
)
from sdb_harness.records import Completion, Problem, SamplingConfig
from sdb_harness.store import Store
from sdb_harness.sweep import parse_sweep, resolve_cells
from sdb_harness.timing import check_times
from sdb_sandboxes.types import Case, FunctionCheck

PROBLEM = Problem("p/0", "def f():\n", "    pass\n", "f", FunctionCheck("f", (Case((), None),)))
SAMPLING = SamplingConfig(max_new_tokens=64, temperature=0.2, top_p=0.95)
CHAT = (ChatMessage("user", "Write f."),)
SECRET = "sk-not-a-real-key-4711"

Reply = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers each POST with the next reply of the server's script; the last one repeats."""

    protocol_version = "HTTP/1.1"
    server: "ScriptedServer"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = len(self.server.requests)
            self.server.requests.append((self.path, dict(self.headers), body))
        replies = self.server.replies
        replies[min(number, len(replies) - 1)](self)

    def start(self, status: int, content_type: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, data: bytes) -> None:
        if not data:  # an empty chunk would end the body
            return
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def send_event(self, chunk: object) -> None:
        self.send(f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode())

    def finish_stream(self) -> None:
        self.send(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class ScriptedServer(ThreadingHTTPServer):
    """A server with a script and a record of what it was asked."""

    def __init__(self, replies: tuple[Reply, ...]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.replies = replies
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of some tests."""


@contextmanager
def serve(*replies: Reply) -> Iterator[ScriptedServer]:
    server = ScriptedServer(replies)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def open_generator(server: ScriptedServer, **options: Any) -> Iterator[OpenAIGenerator]:
    generator = OpenAIGenerator(
        ServerOptions(**{"url": server.url, "model": "toy", **options}), backoff_s=0.001
    )
    try:
        yield generator
    finally:
        generator.close()
        generator.close()


@pytest.fixture(autouse=True)
def bypass_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def stream(
    *texts: str,
    usage: int | None = None,
    finish_reason: str | None = "stop",
    gap_s: float = 0.0,
    is_chat: bool = False,
) -> Reply:
    def reply(handler: Handler) -> None:
        handler.start(200, "text/event-stream; charset=utf-8")
        if is_chat:
            handler.send_event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        for number, text in enumerate(texts):
            if number:
                time.sleep(gap_s)
            choice: dict[str, Any] = {"delta": {"content": text}} if is_chat else {"text": text}
            handler.send_event({"choices": [{**choice, "finish_reason": None}], "usage": None})
        end: dict[str, Any] = {"delta": {}} if is_chat else {"text": ""}
        handler.send_event({"choices": [{**end, "finish_reason": finish_reason}]})
        if usage is not None:
            handler.send_event({"choices": [], "usage": {"completion_tokens": usage}})
        handler.finish_stream()

    return reply


def refuse(
    status: int,
    body: str = '{"error": {"message": "no\\nway"}}',
    content_type: str = "application/json",
    **headers: str,
) -> Reply:
    def reply(handler: Handler) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.start(status, content_type, named)
        handler.send(body.encode())
        handler.wfile.write(b"0\r\n\r\n")

    return reply


def hang_up(handler: Handler) -> None:
    """Two chunks of text, then the connection is gone in the middle of the stream."""
    handler.start(200, "text/event-stream")
    handler.send_event({"choices": [{"text": "    re"}]})
    handler.send_event({"choices": [{"text": "turn"}]})
    handler.close_connection = True


def say_nothing(handler: Handler) -> None:
    """The connection is closed without a reply."""
    handler.close_connection = True


def make_prompted(prompt: Prompt = PROBLEM.prompt, stop: tuple[str, ...] = ()) -> Prompted:
    return Prompted(PROBLEM, prompt, sample_index=0, seed=17, stop=stop)


def make_sampling(batch_size: int) -> SamplingConfig:
    return SAMPLING.model_copy(update={"batch_size": batch_size})


def complete(generator: OpenAIGenerator, prompt: Prompt = PROBLEM.prompt) -> Completion:
    ((position, completion),) = generator.generate([make_prompted(prompt)], SAMPLING)
    assert position == 0
    check_times(completion)
    return completion


class TestStreams:
    def test_source_prompts_go_to_completions(self) -> None:
        with serve(stream("    return", " 1", "\n", usage=3)) as server:
            with open_generator(server) as generator:
                ((_, completion),) = generator.generate([make_prompted(stop=("\ndef",))], SAMPLING)
        assert completion.text == "    return 1\n"
        assert completion.finish_reason == "stop"
        assert (completion.output_tokens, completion.commit_tokens) == (3, (1, 1, 1))
        assert completion.e2e_s == completion.commit_times_s[-1]
        ((path, _, body),) = server.requests
        assert path == "/v1/completions"
        assert body == {
            "model": "toy",
            "prompt": PROBLEM.prompt,
            "max_tokens": 64,
            "temperature": 0.2,
            "top_p": 0.95,
            "seed": 17,
            "stop": ["\ndef"],
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def test_chats_go_to_chat_completions(self) -> None:
        reply = stream("```python\n", "é\u2028x", usage=9, finish_reason="length", is_chat=True)
        with serve(reply) as server, open_generator(server) as generator:
            completion = complete(generator, CHAT)
        assert completion.text == "```python\né\u2028x"
        assert completion.finish_reason == "length"
        ((path, _, body),) = server.requests
        assert path == "/v1/chat/completions"
        assert body["messages"] == [{"role": "user", "content": "Write f."}]
        assert "stop" not in body

    def test_commit_times_are_the_arrival_times(self) -> None:
        with serve(stream("a", "b", "c", usage=3, gap_s=0.03)) as server:
            with open_generator(server) as generator:
                completion = complete(generator)
        first_s, second_s, third_s = completion.commit_times_s
        assert 0 < first_s < second_s - 0.02 < third_s - 0.04
        assert completion.tok_s_user == pytest.approx(3 / third_s)

    def test_a_chunk_is_not_a_token(self) -> None:
        with serve(stream("a b c", "d e f", usage=6)) as server:
            with open_generator(server) as generator:
                completion = complete(generator)
        assert completion.output_tokens == 6
        assert completion.commit_tokens == ()
        first_s, second_s = completion.commit_times_s
        assert 0 < first_s <= second_s == completion.e2e_s

    def test_the_end_token_is_not_output(self) -> None:
        replies = (
            stream("a", "b", usage=3, finish_reason="stop"),
            stream("a", "b", usage=3, finish_reason="length"),
        )
        with serve(*replies) as server, open_generator(server) as generator:
            assert complete(generator).output_tokens == 2
            assert complete(generator).output_tokens == 3

    def test_running_counts_give_commit_sizes(self) -> None:
        def reply(handler: Handler) -> None:
            handler.start(200, "text/event-stream")
            for text, count in (("block one ", 4), ("block two", 7)):
                usage = {"completion_tokens": count}
                handler.send_event({"choices": [{"text": text}], "usage": usage})
            end = {"choices": [{"text": "", "finish_reason": "stop"}]}
            handler.send_event({**end, "usage": {"completion_tokens": 8}})
            handler.finish_stream()

        with serve(reply) as server, open_generator(server, is_usage_per_chunk=True) as generator:
            completion = complete(generator)
        assert completion.commit_tokens == (4, 3)
        assert completion.output_tokens == 7
        assert server.requests[0][2]["stream_options"]["continuous_usage_stats"] is True

    def test_without_usage_there_is_no_speed(self) -> None:
        with serve(stream("a", "b")) as server, open_generator(server) as generator:
            completion = complete(generator)
            assert generator.implementations["output_tokens"] == "not reported"
        assert completion.text == "ab"
        assert completion.output_tokens == 0
        assert completion.tok_s_user is None

    def test_characters_split_between_chunks_are_joined(self) -> None:
        def reply(handler: Handler) -> None:
            handler.start(200, "text/event-stream")
            for half in (r"\ud83d", r"\ude00", r"\ud83d"):
                handler.send(b'data: {"choices": [{"text": "%s"}]}\n\n' % half.encode())
            handler.send_event({"choices": [{"text": "", "finish_reason": "stop"}]})
            handler.finish_stream()

        with serve(reply) as server, open_generator(server) as generator:
            assert complete(generator).text == "\U0001f600\ufffd"

    def test_an_empty_answer_is_an_answer(self) -> None:
        with serve(stream(usage=0)) as server, open_generator(server) as generator:
            completion = complete(generator)
        assert (completion.text, completion.finish_reason) == ("", "stop")


class TestGaps:
    def test_a_server_that_takes_no_suffix_is_told_the_way_out(self) -> None:
        body = '{"error": {"message": "suffix is not currently supported"}}'  # vLLM's
        with serve(refuse(400, body)) as server, open_generator(server) as generator:
            with pytest.raises(UserError) as caught:
                generator.warm_up([make_prompted(Gap("a", "b"))], SAMPLING)
            plain = complete(generator)
        sent = server.requests[0][2]
        assert (sent["prompt"], sent["suffix"]) == ("a", "b")
        assert "suffix is not currently supported; a server that takes no suffix needs fim=" in str(
            caught.value
        )
        assert "fim=" not in plain.error

    def test_tokens_of_a_family_write_the_gap_as_one_prompt(self) -> None:
        options = parse_options("http://localhost:1/v1,model=m,fim=qwen", {})
        path, payload = build_request(options, make_prompted(Gap("a", "b")), SAMPLING)
        assert path == "/completions"
        assert payload["prompt"] == "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"
        assert "suffix" not in payload
        with pytest.raises(UserError, match="fim=qwem is not known; did you mean 'qwen'"):
            parse_options("http://localhost:1/v1,model=m,fim=qwem", {})


class TestConcurrency:
    def test_a_batch_runs_at_once(self) -> None:
        everyone = threading.Barrier(3)

        def reply(handler: Handler) -> None:
            everyone.wait(timeout=5)
            stream("x", usage=1)(handler)

        with serve(reply) as server, open_generator(server) as generator:
            outcomes = list(generator.generate([make_prompted()] * 3, make_sampling(3)))
        assert sorted(position for position, _ in outcomes) == [0, 1, 2]
        assert all(completion.text == "x" for _, completion in outcomes)

    def test_a_slow_member_does_not_hold_back_the_others(self) -> None:
        release = threading.Event()

        def reply(handler: Handler) -> None:
            is_chat = handler.path.startswith("/v1/chat")
            if is_chat:
                release.wait(timeout=5)
            stream("x", usage=1, is_chat=is_chat)(handler)

        batch = [make_prompted(CHAT), make_prompted(), make_prompted()]
        with serve(reply) as server, open_generator(server) as generator:
            outcomes = generator.generate(batch, make_sampling(3))
            fast = {next(outcomes)[0], next(outcomes)[0]}
            release.set()
            assert fast == {1, 2}
            assert [position for position, _ in outcomes] == [0]

    def test_no_more_than_batch_size_requests_are_open(self) -> None:
        lock, counts = threading.Lock(), {"open": 0, "most": 0}

        def reply(handler: Handler) -> None:
            with lock:
                counts["open"] += 1
                counts["most"] = max(counts["most"], counts["open"])
            handler.start(200, "text/event-stream")
            handler.send_event({"choices": [{"text": "x", "finish_reason": "stop"}]})
            with lock:
                counts["open"] -= 1
            handler.finish_stream()

        with serve(reply) as server, open_generator(server) as generator:
            assert len(list(generator.generate([make_prompted()] * 12, make_sampling(2)))) == 12
        assert 1 <= counts["most"] <= 2

    def test_concurrency_raises_the_batch_that_the_cell_records(self) -> None:
        def plan_batch_size(concurrency: int, batch_size: int) -> int:
            document: dict[str, object] = {
                "name": "s",
                "benchmarks": ["minipy:num_problems=1"],
                "generators": [f"openai:http://h/v1,model=m,concurrency={concurrency}"],
                "grid": {"batch_size": [batch_size]},
            }
            (planned,) = resolve_cells(parse_sweep(document), "machine").cells
            return planned.cell.sampling.batch_size

        assert plan_batch_size(8, 1) == 8
        assert plan_batch_size(8, 16) == 16
        assert plan_batch_size(1, 1) == 1

    def test_a_caller_that_stops_early_stops_the_requests(self) -> None:
        with serve(stream("x", usage=1)) as server:
            with open_generator(server) as generator:
                outcomes = generator.generate([make_prompted()] * 50, SAMPLING)
                next(outcomes)
                outcomes.close()  # type: ignore[attr-defined]
                time.sleep(0.02)
                num_requests = len(server.requests)
                assert num_requests < 50
                assert complete(generator).text == "x"

    def test_an_empty_batch_asks_nothing(self) -> None:
        with serve(stream("x")) as server, open_generator(server) as generator:
            assert list(generator.generate([], SAMPLING)) == []
        assert server.requests == []


class TestFaults:
    @pytest.mark.parametrize(
        "fault",
        [
            refuse(429, Retry_After="0"),
            refuse(500),
            refuse(503, "<html>busy</html>", "text/html"),
            refuse(408),
            hang_up,
            stream("    return", finish_reason=None),
            say_nothing,
        ],
        ids=["429", "500", "503-html", "408", "hang-up", "no-finish-reason", "no-reply"],
    )
    def test_passing_faults_are_retried(self, fault: Reply) -> None:
        with serve(fault, fault, stream("ok", usage=1)) as server:
            with open_generator(server) as generator:
                completion = complete(generator)
        assert (completion.text, completion.finish_reason) == ("ok", "stop")
        assert len(server.requests) == 3

    def test_a_server_that_refuses_first_gains_no_time(self) -> None:
        with serve(refuse(503), stream("ok", usage=1)) as server:
            generator = OpenAIGenerator(ServerOptions(server.url, "toy"), backoff_s=0.1)
            (completion,) = [done for _, done in generator.generate([make_prompted()], SAMPLING)]
            generator.close()
        assert completion.e2e_s >= 0.05  # half of the wait between the attempts
        assert completion.commit_times_s == (completion.e2e_s,)

    @pytest.mark.parametrize(
        ("text", "usage"), [("return 1", 65), ("return 1", 10)], ids=["above-max", "above-bytes"]
    )
    def test_tokens_that_cannot_be_the_answers_are_not_counted(self, text: str, usage: int) -> None:
        with serve(stream(text, usage=usage)) as server, open_generator(server) as generator:
            completion = complete(generator)
            assert generator.implementations["output_tokens"].endswith("not all possible")
        assert (completion.text, completion.output_tokens) == (text, 0)
        assert completion.tok_s_user is None

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            (refuse(500), r"answered 500: no way \(6 of 6 attempts\)"),
            (refuse(429, "", Retry_After="0"), "answered 429, asks to wait 0 s: an empty body"),
            (hang_up, "incomplete chunked read"),
            (stream("a", finish_reason=None), "the stream was cut after 1 chunks of text"),
        ],
        ids=["500", "429", "hang-up", "no-finish-reason"],
    )
    def test_lasting_faults_are_errors_and_not_answers(self, fault: Reply, message: str) -> None:
        with serve(fault) as server, open_generator(server) as generator:
            (_, completion), (_, second) = generator.generate([make_prompted()] * 2, SAMPLING)
        for failed in (completion, second):
            assert failed.finish_reason == "error"
            assert (failed.text, failed.output_tokens) == ("", 0)
            assert "\n" not in failed.error
        assert any(re.search(message, failed.error) for failed in (completion, second))

    def test_after_giving_up_each_request_gets_one_attempt_until_one_succeeds(self) -> None:
        replies = (*[refuse(500)] * 8, stream("ok", usage=1), refuse(500), stream("ok", usage=1))
        with serve(*replies) as server, open_generator(server) as generator:
            kinds = [complete(generator).finish_reason for _ in range(5)]
        assert kinds == ["error", "error", "error", "stop", "stop"]
        assert len(server.requests) == 6 + 1 + 1 + 1 + 2

    @pytest.mark.parametrize("status", [400, 401, 404, 302])
    def test_refusals_are_not_retried(self, status: int) -> None:
        with serve(refuse(status)) as server, open_generator(server) as generator:
            completion = complete(generator)
        assert completion.error.endswith(f"/completions answered {status}: no way")
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        ("reply", "message"),
        [
            (refuse(200, "<!doctype html>hi", "text/html"), "text/html instead of an event stream"),
            (refuse(200, '{"choices": []}'), "application/json instead of an event stream"),
            (stream("x", finish_reason="content_filter"), "finish_reason 'content_filter'"),
        ],
        ids=["html", "not-streamed", "filtered"],
    )
    def test_other_replies_are_named(self, reply: Reply, message: str) -> None:
        with serve(reply) as server, open_generator(server) as generator:
            completion = complete(generator)
        assert completion.finish_reason == "error"
        assert message in completion.error
        assert "doctype" not in completion.error
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        "data", ["no json", "[1]", '{"choices": [{}]}', "7", '{"choices": [{"text": 5}]}']
    )
    def test_a_stream_of_something_else_is_named(self, data: str) -> None:
        def reply(handler: Handler) -> None:
            handler.start(200, "text/event-stream")
            handler.send(f"data: {data}\n\n".encode())
            handler.finish_stream()

        with serve(reply) as server, open_generator(server) as generator:
            completion = complete(generator)
        assert completion.error == f"the stream is not made of completion chunks: {data}"

    def test_an_error_inside_the_stream_is_retried(self) -> None:
        def reply(handler: Handler) -> None:
            handler.start(200, "text/event-stream")
            handler.send_event({"error": {"message": "out of memory", "code": 500}})
            handler.finish_stream()

        with serve(reply) as server, open_generator(server) as generator:
            completion = complete(generator)
        assert "error inside the stream: out of memory" in completion.error
        assert len(server.requests) == 6

    def test_a_server_that_asks_for_too_much_patience_is_given_up(self) -> None:
        with serve(refuse(429, Retry_After="3600")) as server, open_generator(server) as generator:
            completion = complete(generator)
        assert "asks to wait 3600 s" in completion.error
        assert len(server.requests) == 1


class TestWarmUp:
    def test_sends_the_prompts_and_learns_what_runs(self) -> None:
        with serve(stream("x", usage=1)) as server, open_generator(server) as generator:
            generator.warm_up([make_prompted()] * 2, SAMPLING)
            assert "BaseHTTP" in generator.implementations["server"]
            assert generator.implementations["output_tokens"] == "usage reported by the server"
        assert len(server.requests) == 2

    def test_an_unreachable_server_is_one_clear_line(self) -> None:
        with serve(stream("x")) as server:
            pass
        with open_generator(server) as generator:
            with pytest.raises(
                UserError, match=r"cannot talk to http://127.*is the server running"
            ) as e:
                generator.warm_up([make_prompted()], SAMPLING)
        assert "\n" not in str(e.value)

    def test_a_wrong_path_is_one_clear_line(self) -> None:
        with serve(refuse(404, "<html>no</html>", "text/html")) as server:
            with open_generator(server) as generator:
                with pytest.raises(UserError, match="answered 404: an HTML page"):
                    generator.warm_up([make_prompted()], SAMPLING)

    def test_diffusion_settings_and_wrong_prompts_are_refused_before_asking(self) -> None:
        prefilled = (*CHAT, ChatMessage("assistant", "Sure:\n```python\n"))
        diffusion = SamplingConfig(block_size=8, threshold=0.9)
        with serve(stream("x", usage=1, is_chat=True)) as server:
            with open_generator(server, api="chat") as generator:
                for prompt, sampling, message in (
                    (PROBLEM.prompt, SAMPLING, "api=chat does not fit"),
                    (CHAT, diffusion, "block_size=8 cannot be sent"),
                    (prefilled, SAMPLING, "add prefill=yes"),
                ):
                    with pytest.raises(UserError, match=message):
                        generator.warm_up([make_prompted(prompt)], sampling)
            assert server.requests == []
            with open_generator(server, can_prefill=True) as generator:
                assert complete(generator, prefilled).text == "x"
            body = server.requests[0][2]
        assert body["continue_final_message"] is True
        assert body["add_generation_prompt"] is False

    def test_stop_strings_are_limited_where_asked(self) -> None:
        with serve(stream("x")) as server, open_generator(server, max_stops=2) as generator:
            list(generator.generate([make_prompted(stop=("a", "b", "c"))], SAMPLING))
        assert server.requests[0][2]["stop"] == ["a", "b"]


class TestKeys:
    def test_the_key_is_sent_and_never_shown(self, caplog: pytest.LogCaptureFixture) -> None:
        reply = refuse(401, json.dumps({"error": {"message": f"Incorrect API key: {SECRET}"}}))
        with caplog.at_level(logging.DEBUG), serve(reply) as server:
            options = parse_options(f"{server.url},model=toy", {"OPENAI_API_KEY": SECRET})
            generator = OpenAIGenerator(options)
            completion = complete(generator)
            generator.close()
        assert server.requests[0][1]["Authorization"] == f"Bearer {SECRET}"
        assert completion.error.endswith("answered 401: Incorrect API key: [key]")
        shown = [repr(options), repr(vars(generator)), generator.revision, caplog.text]
        assert not any(SECRET in text for text in shown)

    def test_the_key_may_stand_in_another_variable(self) -> None:
        options = parse_options("http://h/v1,model=m,key_env=MY_KEY", {"MY_KEY": SECRET})
        assert options.key == SECRET
        with pytest.raises(UserError, match="environment variable MY_KEY is not set"):
            parse_options("http://h/v1,model=m,key_env=MY_KEY", {"OPENAI_API_KEY": SECRET})

    def test_without_a_key_no_header_is_sent(self) -> None:
        with serve(stream("x")) as server, open_generator(server) as generator:
            complete(generator)
        assert "Authorization" not in server.requests[0][1]


class TestOptions:
    def test_reads_everything(self) -> None:
        text = (
            "http://h:8000/v1/, model=org/name:tag,api=chat,concurrency=3,prefill=yes,"
            "usage=per_chunk,max_stops=4"
        )
        assert parse_options(text, {}) == ServerOptions(
            url="http://h:8000/v1",
            model="org/name:tag",
            api="chat",
            concurrency=3,
            can_prefill=True,
            is_usage_per_chunk=True,
            max_stops=4,
        )

    def test_loads_by_name_with_model_and_url_as_revision(self) -> None:
        generator = load_generator("openai:http://localhost:8000/v1,model=m")
        assert generator.revision == "m@http://localhost:8000/v1"
        generator.close()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("http://h/v1", "no model given; write openai:http://h/v1,model=NAME"),
            ("http://h/v1,modle=m", "did you mean 'model'"),
            ("http://h/v1,model=", "cannot read 'model='"),
            ("http://h/v1,model=a,model=b", "cannot read 'model=b'"),
            ("http://h/v1,model=m,api=chats", "did you mean 'chat'"),
            ("http://h/v1,model=m,concurrency=0", "from 1 to 1024"),
            ("http://h/v1,model=m,concurrency=many", "from 1 to 1024"),
            ("localhost:8000,model=m", "not an http or https URL"),
            ("ftp://h/v1,model=m", "not an http or https URL"),
            ("http://h:port/v1,model=m", "is not a URL"),
            (f"http://me:{SECRET}@h/v1,model=m", "carries a password"),
            (f"http://h/v1?key={SECRET},model=m", "carries a password"),
        ],
    )
    def test_bad_input_is_one_line_with_the_way_out(self, text: str, message: str) -> None:
        with pytest.raises(UserError) as caught:
            parse_options(text, {})
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
        assert SECRET not in str(caught.value)


class TestEventStream:
    STREAM = (
        b': comment\nevent: x\ndata: {"a":\ndata: 1}\n\n\ndata:two\r\n\r\nid: 7\n\ndata: '
        + "\u00e9\u2028".encode()
        + b"\n\ndata: not ended"
    )

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
    def test_events_do_not_depend_on_the_pieces(self, size: int) -> None:
        pieces = [self.STREAM[i : i + size] for i in range(0, len(self.STREAM), size)]
        assert list(parse_events(pieces)) == ['{"a":\n1}', "two", "\u00e9\u2028"]

    def test_bytes_that_are_not_utf8_do_not_raise(self) -> None:
        assert list(parse_events([b"data: \xff\n\n"])) == ["\ufffd"]

    def test_a_line_without_end_is_given_up(self) -> None:
        endless = (b"data: " + b"x" * (1 << 20) for _ in range(1 << 20))
        with pytest.raises(_Refused, match="a line of more than 8388608 bytes"):
            list(parse_events(endless))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "content", "text", "usage", "completion_tokens", "error"]
            )
            | st.just("finish_reason"),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


class TestHostileEvents:
    @given(events=st.lists(JSON_VALUES.map(json.dumps) | st.text(max_size=40), max_size=4))
    def test_any_events_give_a_completion_or_a_named_failure(self, events: list[str]) -> None:
        reader = StreamReader(time.perf_counter())
        with contextlib.suppress(_Failed, _Refused):
            for event in events:
                reader.read(event)
            check_times(reader.finish(64))

    @pytest.mark.parametrize(
        "data",
        [
            "[" * 100_000,
            '{"choices": [{"text": "a"}], "usage": {"completion_tokens": 1e999}}',
            '{"choices": null}',
        ],
    )
    def test_what_only_breaks_a_parser_is_refused(self, data: str) -> None:
        with pytest.raises(_Refused, match="not made of completion chunks"):
            StreamReader(0.0).read(data)


def send_html(handler: Handler) -> None:
    """A proxy's page that never ends by itself; status 200."""
    handler.start(200, "text/html")
    page = b"<html>" + b"<p>try later</p>" * 4096
    with contextlib.suppress(OSError):  # the client stops reading
        for _ in range(1000):
            handler.send(page)
    handler.close_connection = True


def test_a_run_goes_on_past_html_and_cut_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_api, "choose_delay_s", lambda *given: 0.0)
    monkeypatch.setattr(openai_api, "_NUM_ATTEMPTS", 2)
    good = stream("    return 0\n", usage=5)
    first_round = (good, send_html, hang_up, hang_up, good)
    with serve(good, *first_round, send_html, hang_up) as server:  # warm-up, then two rounds
        arguments = ["run", "--benchmark", "minipy:num_problems=4", "--runs", str(tmp_path)]
        arguments += ["--generator", f"openai:{server.url},model=toy", "--protocol", "base"]
        result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    *reasons, line = result.stderr.splitlines()
    assert len(reasons) == 2
    told = "note: 1 programs of minipy:num_problems=4 not generated: "
    assert all(reason.startswith(told) for reason in reasons)
    assert line.startswith("sdbench: 2 programs could not be generated or judged")
    (path,) = tmp_path.glob("*/store.sqlite")
    with Store.open_for_reading(path) as store:
        assert len(list(store.iterate_rows())) == 2
        assert store.count_faults() == 2


class TestDelays:
    def test_the_wait_doubles_is_shortened_at_random_and_bounded(self) -> None:
        for attempt in range(1, 12):
            full_s = min(60.0, 0.5 * 2 ** (attempt - 1))
            delays = {choose_delay_s(attempt, None, 0.5) for _ in range(20)}
            assert len(delays) > 1
            assert all(delay is not None and full_s / 2 <= delay <= full_s for delay in delays)

    def test_retry_after_is_honoured_up_to_a_minute(self) -> None:
        assert choose_delay_s(1, 7.0, 0.5) == 7.0
        assert choose_delay_s(1, 61.0, 0.5) is None

    def test_reads_seconds_and_dates(self) -> None:
        assert parse_retry_after_s("12") == 12.0
        assert parse_retry_after_s("Mon, 01 Jan 2024 00:00:00 GMT") == 0.0
        assert parse_retry_after_s("soon") is None
        assert parse_retry_after_s(None) is None
        in_2100 = parse_retry_after_s("Fri, 01 Jan 2100 00:00:00 GMT")
        assert in_2100 is not None
        assert in_2100 > 1e9
