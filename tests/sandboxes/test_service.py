"""The HTTP service on a real loopback port, asked by a real client."""

import base64
import http.client
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from sdb_sandboxes.rewards import judge as judge_module
from sdb_sandboxes.service import app as service_app
from sdb_sandboxes.service.app import Service, ServiceSettings, bind, make_server
from sdb_sandboxes.service.fusion import RunCodeRequest, build_request, build_response
from sdb_sandboxes.service.guard import find_token
from sdb_sandboxes.types import Case, ExecutionResult, FunctionCheck, Status, Verdict
from sdb_sandboxes.wire import check_to_json

TOKEN = "a-token-for-tests-only"
CHECK: dict[str, Any] = {
    "kind": "function",
    "entry_point": "f",
    "cases": [{"args": [3], "expected": 3}, {"args": [4], "expected": 4}],
}
RIGHT = "def f(x): return x\n"
WRONG = "def f(x): return 3\n"
SETTINGS = ServiceSettings(TOKEN, num_slots=1, max_pending=8, max_body_bytes=200_000)


@dataclass
class Running:
    """A server in a thread of this process."""

    service: Service
    server: uvicorn.Server
    port: int
    client: httpx.Client

    def post(self, path: str, body: Any) -> httpx.Response:
        return self.client.post(path, json=body)


def start(settings: ServiceSettings) -> Iterator[Running]:
    """Serve until the test ends, then stop as SIGTERM does."""
    listener = bind("127.0.0.1", 0, allow_remote=False)
    service = Service(settings)
    server = make_server(service)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    port = listener.getsockname()[1]
    headers = {"Authorization": f"Bearer {TOKEN}"}
    url = f"http://127.0.0.1:{port}"
    # The port is bound already, so the first request waits until the server answers.
    with httpx.Client(base_url=url, headers=headers, timeout=120, trust_env=False) as client:
        yield Running(service, server, port, client)
    server.should_exit = True
    thread.join(60)
    assert not thread.is_alive()
    listener.close()


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    yield from start(SETTINGS)


def test_it_lives_and_documents_itself(running: Running) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{running.port}", trust_env=False) as anyone:
        health = anyone.get("/health").json()
        assert health["status"] == "ok"
        assert health["sandbox_level"].startswith("embedded/")
        assert anyone.get("/v1/ping").json() == "pong"
        described = anyone.get("/openapi.json").json()
    assert {"/verify", "/verify_batch", "/run_code", "/health"} <= described["paths"].keys()
    assert {"401", "413", "422", "429"} <= described["paths"]["/verify"]["post"]["responses"].keys()
    assert described["components"]["securitySchemes"]


def test_a_program_gets_its_full_verdict(running: Running) -> None:
    answer = running.post("/verify", {"program": RIGHT, "check": CHECK, "limits": {"cpu_s": 2}})
    assert answer.status_code == 200
    verdict = answer.json()
    assert verdict["status"] == "passed"
    assert (verdict["num_tests"], verdict["num_tests_passed"]) == (2, 2)
    assert verdict["trust_level"] == "L3"
    assert verdict.keys() == set(Verdict.__dataclass_fields__)


def test_a_check_may_come_as_the_text_of_a_column(running: Running) -> None:
    text = check_to_json(FunctionCheck("f", (Case((3,), 3), Case((4,), 4))))
    assert running.post("/verify", {"program": WRONG, "check": text}).json()["status"] == (
        "wrong_answer"
    )


def test_a_batch_is_judged_in_order(running: Running) -> None:
    body = {"programs": [RIGHT, WRONG, "def"], "check": CHECK, "group": "problem 7"}
    verdicts = running.post("/verify_batch", body).json()["verdicts"]
    statuses = [verdict["status"] for verdict in verdicts]
    assert statuses == ["passed", "wrong_answer", "compile_error"]


def test_a_program_of_standard_input_is_judged(running: Running) -> None:
    check = {"kind": "stdin", "cases": [["2 3\n", "5\n"]]}
    program = "print(sum(map(int, input().split())))"
    assert running.post("/verify", {"program": program, "check": check}).json()["status"] == (
        "passed"
    )


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        ("Basic " + base64.b64encode(f":{TOKEN}".encode()).decode(), 200),
        ("Basic " + base64.b64encode(f"user:{TOKEN}".encode()).decode(), 200),
        ("Bearer a-token-for-tests-onlx", 401),
        ("Bearer", 401),
        (f"Basic {TOKEN}", 401),
        ("Basic " + base64.b64encode(TOKEN.encode()).decode(), 401),
        (f"Digest {TOKEN}", 401),
        (None, 401),
    ],
)
def test_only_the_token_opens(running: Running, authorization: str | None, status: int) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    url = f"http://127.0.0.1:{running.port}/run_code"
    body = {"code": "print(1)", "language": "python"}
    answer = httpx.post(url, json=body, headers=headers, timeout=60, trust_env=False)
    assert answer.status_code == status
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in answer.text


def test_a_client_that_only_knows_a_url_can_send_the_token(running: Running) -> None:
    url = f"http://:{TOKEN}@127.0.0.1:{running.port}/run_code"
    body = {"code": "print(1)", "language": "python"}
    answer = httpx.post(url, json=body, timeout=60, trust_env=False)
    assert answer.json()["run_result"]["stdout"] == "1\n"


def test_a_token_is_asked_for_before_the_route_is_looked_up(running: Running) -> None:
    url = f"http://127.0.0.1:{running.port}/no_such_route"
    assert httpx.get(url, trust_env=False).status_code == 401
    assert running.client.get("/no_such_route").status_code == 404


def test_what_is_too_long_is_refused_unread(running: Running) -> None:
    answer = running.post("/verify", {"program": "#" * 300_000, "check": CHECK})
    assert answer.status_code == 413
    assert "longer than 200000 bytes" in answer.json()["detail"]
    # Without a length up front, as soon as too much has come; the answer arrives all the same.
    for _ in range(5):
        pieces = (b"#" * 50_000 for _ in range(100))
        assert running.client.post("/verify", content=pieces).status_code == 413
    headers = {"Authorization": "Bearer wrong"}
    assert (
        running.client.post("/verify", content="#" * 3_000_000, headers=headers).status_code == 401
    )
    assert running.client.get("/health").status_code == 200


def test_a_refused_client_that_never_ends_is_hung_up_on(running: Running) -> None:
    head = (
        f"POST /verify HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Content-Length: 9000000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", running.port), 60) as client:
        client.sendall(head.encode())
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/verify", {"program": RIGHT}, "check: Field required"),
        ("/verify", {"program": RIGHT, "check": CHECK, "cpu": 1}, "cpu: Extra inputs"),
        ("/verify", {"program": RIGHT, "check": {}}, "check.kind is null; use assertions"),
        (
            "/verify",
            {"program": RIGHT, "check": CHECK | {"cases": [{"args": []}]}},
            "check.cases[0] lacks the field 'expected'",
        ),
        ("/verify", {"program": RIGHT, "check": CHECK | {"cases": []}}, "has no case"),
        ("/verify", {"program": RIGHT, "check": "["}, "the check is not JSON"),
        (
            "/verify",
            {"program": RIGHT, "check": CHECK, "limits": {"cpu_s": 1e9}},
            "limits.cpu_s=1000000000.0; at most 300.0 can be asked for",
        ),
        (
            "/verify",
            {"program": RIGHT, "check": CHECK, "limits": {"cpu_s": -1}},
            "limits.cpu_s=-1.0; a positive number is needed",
        ),
        ("/verify_batch", {"programs": [], "check": CHECK}, "programs: List should have"),
        ("/run_code", {"code": "1"}, "language: Field required"),
        (
            "/run_code",
            {"code": "1", "language": "cobol"},
            "language 'cobol' is unknown; use one of python",
        ),
        (
            "/run_code",
            {"code": "1", "language": "cpp"},
            "language 'cpp' needs the Docker sandbox",
        ),
        (
            "/run_code",
            {"code": "1", "language": "python", "run_timeout": 0},
            "run_timeout: Input should be greater than 0",
        ),
        (
            "/run_code",
            {"code": "1", "language": "python", "fetch_files": ["x"]},
            "fetch_files must be empty",
        ),
        *(
            (
                "/run_code",
                {"code": "1", "language": "python", "files": {path: "eA=="}},
                "leaves the program's folder",
            )
            for path in ("/etc/passwd", "../x", "a/../../x", "", "a\0b")
        ),
        (
            "/run_code",
            {"code": "1", "language": "python", "files": {"main.py": "eA=="}},
            "is the program's own",
        ),
        (
            "/run_code",
            {"code": "1", "language": "python", "files": {"x": "not base64"}},
            "is not base64 of UTF-8 text",
        ),
    ],
)
def test_bad_input_is_one_line_that_names_the_field(
    running: Running, path: str, body: object, message: str
) -> None:
    answer = running.post(path, body)
    assert answer.status_code == 422
    assert message in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]


def test_what_is_no_json_is_named(running: Running) -> None:
    for content in (b"{", b"\xff", b"[" * 100_000):
        answer = running.client.post(
            "/verify", content=content, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code in (400, 422), content[:5]
        assert "\n" not in answer.json()["detail"]


def test_too_many_programs_in_a_request_are_refused(running: Running) -> None:
    answer = running.post("/verify_batch", {"programs": [RIGHT] * 9, "check": CHECK})
    assert answer.status_code == 413
    assert "send at most 8 in a request" in answer.json()["detail"]


def run_code(running: Running, code: str, **fields: Any) -> dict[str, Any]:
    answer = running.post("/run_code", {"code": code, "language": "python", **fields})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_run_code_answers_in_sandboxfusions_shape(running: Running) -> None:
    answer = run_code(running, "print(input()[::-1])", stdin="abc\n", fetch_files=[], files={})
    run = answer["run_result"]
    assert run.pop("execution_time") >= 0
    assert answer == {
        "status": "Success",
        "message": "",
        "compile_result": None,
        "run_result": {
            "status": "Finished",
            "return_code": 0,
            "stdout": "cba\n",
            "stderr": "",
        },
        "executor_pod_name": None,
        "files": {},
    }


def test_run_code_tells_how_a_program_failed(running: Running) -> None:
    answer = run_code(running, "import sys; print('x'); sys.exit(3)")
    assert (answer["status"], answer["run_result"]["return_code"]) == ("Failed", 3)
    assert answer["run_result"]["stdout"] == "x\n"
    answer = run_code(running, "1 / 0")
    assert (answer["status"], answer["run_result"]["return_code"]) == ("Failed", 1)
    assert "ZeroDivisionError" in answer["run_result"]["stderr"]
    answer = run_code(running, "def (")
    assert (answer["status"], answer["run_result"]["return_code"]) == ("Failed", 1)
    assert "SyntaxError" in answer["run_result"]["stderr"]
    answer = run_code(running, "import os; os.abort()")
    assert answer["status"] == "Failed"
    assert answer["run_result"]["return_code"] < 0
    answer = run_code(running, "while True: pass", run_timeout=0.2)
    assert (answer["status"], answer["run_result"]["status"]) == ("Failed", "TimeLimitExceeded")
    assert answer["run_result"]["return_code"] is None
    answer = run_code(running, "x = bytearray(b'x') * (1 << 40)", memory_limit_MB=64)
    assert answer["status"] == "Failed"
    assert answer["run_result"]["return_code"] != 0


def test_run_code_gives_a_program_its_files(running: Running) -> None:
    content = base64.b64encode("grüße".encode()).decode()
    code = "print(open('data/a.txt', encoding='utf-8').read())"
    answer = run_code(running, code, files={"data/a.txt": content, "ignored": None})
    assert answer["run_result"]["stdout"] == "grüße\n"


def test_a_hostile_program_cannot_reach_the_service(running: Running) -> None:
    hostile = (
        "import socket\n"
        "try:\n"
        f"    socket.create_connection(('127.0.0.1', {running.port}), 2)\n"
        "except OSError:\n"
        "    print('denied')\n"
        "else:\n"
        "    print('reached')\n"
    )
    assert run_code(running, hostile)["run_result"]["stdout"] == "denied\n"


def test_clients_at_once_get_their_own_answers(running: Running) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda n: run_code(running, f"print({n})"), range(24)))
    assert [answer["run_result"]["stdout"] for answer in answers] == [f"{n}\n" for n in range(24)]


class Held:
    """Makes every judgement wait for the test."""

    def __init__(self) -> None:
        self.has_started = threading.Semaphore(0)
        self.may_end = threading.Event()

    def verify(self, *arguments: object) -> Verdict:
        self.has_started.release()
        assert self.may_end.wait(60)
        return Verdict(Status.INFRASTRUCTURE, 2, 0, 0.0, 0.0, 0, "L3", "scripted", detail="held")


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held()
    monkeypatch.setattr(judge_module, "verify", held.verify)
    yield held
    held.may_end.set()


def test_a_full_queue_is_answered_429_and_stopping_finishes_what_was_accepted(held: Held) -> None:
    server_of_two = start(replace(SETTINGS, max_pending=2))
    running = next(server_of_two)
    body = {"program": RIGHT, "check": CHECK}
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(
            running.post, "/verify_batch", {"programs": [RIGHT] * 2, **{"check": CHECK}}
        )
        assert held.has_started.acquire(timeout=60)
        refused = running.post("/verify", body)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert "2 programs are pending, the limit is 2" in refused.json()["detail"]
        assert running.client.get("/health").json()["num_pending"] == 2
        running.server.should_exit = True
        held.may_end.set()
        verdicts = accepted.result(60).json()["verdicts"]
    assert [verdict["status"] for verdict in verdicts] == ["infrastructure"] * 2
    assert next(server_of_two, None) is None


def test_who_hangs_up_gives_its_places_back(held: Held) -> None:
    serving = start(replace(SETTINGS, max_pending=2))
    running = next(serving)
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    body = (
        '{"programs": ["1", "2"], "check": {"kind": "function", "entry_point": "f", "cases": []}}'
    )
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    connection.request("POST", "/verify_batch", body, headers)
    assert held.has_started.acquire(timeout=60)
    connection.close()
    while running.client.get("/health").json()["num_pending"]:
        pass
    held.may_end.set()
    assert next(serving, None) is None


def test_a_fault_of_ours_is_a_sandbox_error() -> None:
    lost = ExecutionResult(Status.INFRASTRUCTURE, (), 0.0, 0.0, 0, detail="the engine is gone")
    answer = build_response(lost, is_compiled=False)
    assert (answer.status, answer.message) == ("SandboxError", "the engine is gone")
    assert answer.run_result is not None
    assert answer.run_result.status == "Error"


def test_compiling_is_told_apart_from_running() -> None:
    failed = ExecutionResult(Status.COMPILE_ERROR, (), 0.0, 0.0, 0, stderr_tail="error: x")
    answer = build_response(failed, is_compiled=True)
    assert (answer.status, answer.run_result) == ("Failed", None)
    assert answer.compile_result is not None
    assert (answer.compile_result.return_code, answer.compile_result.stderr) == (1, "error: x")


def test_a_java_program_is_named_after_its_public_class() -> None:
    code = "import java.util.*;\npublic final class Solution { }"
    request = build_request(RunCodeRequest(code=code, language="java"))
    assert request.files[0][0] == "Solution.java"
    assert build_request(RunCodeRequest(code="x", language="nodejs")).language == "javascript"


def test_a_token_comes_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    monkeypatch.setenv("SDBENCH_SANDBOX_TOKEN", "another-token-of-the-environment")
    assert find_token(file) == (TOKEN, False)
    assert find_token(None) == ("another-token-of-the-environment", False)
    monkeypatch.delenv("SDBENCH_SANDBOX_TOKEN")
    (first, is_new), (second, _) = find_token(None), find_token(None)
    assert is_new
    assert first != second
    file.write_text("short")
    with pytest.raises(ValueError, match="has 5 characters; at least 16") as caught:
        find_token(file)
    assert "short" not in str(caught.value).replace(str(file), "")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_machines_need_a_flag(host: str) -> None:
    with pytest.raises(ValueError, match="can be reached from other machines"):
        bind(host, 0, allow_remote=False)


def test_a_taken_port_and_a_name_are_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {port}: Address"):
            service_app.bind("127.0.0.1", port, allow_remote=False)
    with pytest.raises(ValueError, match="host 'example' is no address"):
        service_app.bind("example", 0, allow_remote=False)
