"""What a forked cell does once it is locked: serve one program, or run trusted tests.

Place in the flow: `zygote.py` forks and locks the cell, then calls `serve_candidate` or
`run_tests`. The two never share a process: tests call a stub, and the stub's calls are answered by
the other cell as plain data. Calls that are known beforehand come together with the program and are
answered one by one, so that a sample costs one change of processes and not one a call. What it does
not do: the candidate's cell never holds an expected value, and whatever a program changes in its
own interpreter can only spoil its own answers.
"""

import builtins
import contextlib
import os
import sys
import time
import traceback
import types
from _socket import AF_UNIX, SOCK_STREAM, socketpair
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from sdb_sandboxes.agent.codec import (
    ProtocolError,
    UnsendableError,
    decode,
    encode,
    pack_data,
    pack_frame,
    pack_order,
    receive_frame,
    receive_order,
    send_frame,
    simplify,
    unpack_data,
    write_all,
)
from sdb_sandboxes.agent.objects import (
    CandidateGone,
    Peer,
    prepare_module,
    run_object_tests,
    serve_callbacks,
    serve_objects,
)
from sdb_sandboxes.agent.script import rehearse as rehearse_script
from sdb_sandboxes.agent.script import run_script

CHANNEL, VERDICT = 3, 4
"""Descriptors of a cell: calls and answers; for tests also the line to the judge."""
REHEARSED = "from typing import List\ndef f(x, y):\n    return ([z for z in x], {y: x})\n"
REHEARSED_TESTS = (
    "def check(candidate):\n    assert candidate([1]) == [1]\n    assert candidate('a') is True\n"
)
NO_KEYWORDS: Mapping[str, Any] = types.MappingProxyType({})


def serve_candidate() -> None:
    """Load the one program that comes; answer the calls that came along, or those of tests."""
    own_pid = os.getpid()
    order = receive_order(CHANNEL)
    if "files" in order:
        run_script(CHANNEL, order)
    calls = unpack_data(order["calls"]) if "calls" in order else None
    names, report = load_program(order["program"])
    if os.getpid() != own_pid:
        os._exit(1)
    flush_output()
    send_frame(CHANNEL, report)
    if calls is None:
        serve_tests(names, own_pid)
    if "failed" in report:
        os.close(CHANNEL)
        while True:
            time.sleep(3600)
    for number, (name, arguments) in enumerate(calls, 1):
        reply = answer_call(names, number, name, arguments)
        if os.getpid() != own_pid:
            os._exit(1)
        flush_output()
        send_reply(reply)
    # The judge hears this at once, and reads the answers while the kernel takes us apart.
    os.close(CHANNEL)
    os._exit(0)


def load_program(program: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compile and run the program as a module: its names, and what to say about it."""
    module = types.ModuleType("candidate")
    sys.modules["candidate"] = module
    stage = "compile"
    try:
        # A byte order mark is no part of a program, as in a file.
        source = program.removeprefix("\ufeff")
        code = compile(source, "<candidate>", "exec", dont_inherit=True)
        stage = "load"
        exec(code, module.__dict__)
    except BaseException as error:
        show_error()
        return module.__dict__, {"failed": type(error).__name__, "stage": stage}
    return module.__dict__, {"ready": True}


def rehearse() -> None:
    """Do what every cell does, in the server and for nobody, so that cells find it done.

    An interpreter writes to a function's page until it has seen it a few times, and each such page
    is one that every cell would have to copy.
    """
    ours, theirs = os.pipe()
    for _ in range(20):
        calls = pack_data([("f", ([1, "a"], 2.0))])
        write_all(theirs, pack_order({"program": REHEARSED, "calls": calls}))
        order = receive_order(ours)
        names, report = load_program(order["program"])
        flush_output()
        for number, (name, arguments) in enumerate(unpack_data(order["calls"]), 1):
            reply = answer_call(names, number, name, arguments)
            write_all(theirs, pack_frame(reply))
            receive_frame(ours)
        write_all(theirs, pack_frame(report))
        receive_frame(ours)
        del sys.modules["candidate"]
    os.close(ours)
    os.close(theirs)
    rehearse_script()


def rehearse_tests() -> None:
    """The same for the cells of tests: a check that ends with a wrong answer to its ping."""
    request = {"entry_point": "f", "prelude": REHEARSED, "tests": REHEARSED_TESTS, "nonce": ""}
    ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
    for _ in range(20):
        for reply in ({"id": 1, "v": [1], "m": [[1]]}, {"id": 2, "v": True, "m": ["a"]}, {}):
            write_all(theirs.fileno(), pack_frame(reply))
        pack_frame(check_stub(request, Stub("f", ours.fileno())))
        for _ in range(3):
            receive_order(theirs.fileno())
    ours.close()
    theirs.close()


def serve_tests(names: dict[str, Any], own_pid: int) -> NoReturn:
    """Answer what the tests' cell asks until killed."""
    while True:
        message = receive_order(CHANNEL)
        if "objects" in message:
            serve_objects(names, CHANNEL)
        if "ping" in message:
            send_frame(CHANNEL, {"pong": message["ping"]})
            continue
        arguments, keywords = message["a"], message["k"]
        reply = answer_call(names, message["id"], message["f"], arguments, keywords)
        if "v" in reply:
            # The tests see what the call did to its arguments.
            reply["m"] = [encode_or_name(item) for item in arguments]
        if os.getpid() != own_pid:
            os._exit(1)
        flush_output()
        send_reply(reply)


def send_reply(reply: dict[str, Any]) -> None:
    """Send an answer, or that it is too large."""
    try:
        send_frame(CHANNEL, reply)
    except UnsendableError:
        send_frame(CHANNEL, {"id": reply["id"], "v": {"o": "too large"}})


def answer_call(
    names: dict[str, Any],
    number: int,
    name: str,
    arguments: Sequence[Any],
    keywords: Mapping[str, Any] = NO_KEYWORDS,
) -> dict[str, Any]:
    """Call once: the value, or the name of the exception."""
    try:
        if name not in names:
            raise NameError(f"the program defines no {name!r}")
        return {"id": number, "v": encode_or_name(names[name](*arguments, **keywords))}
    except BaseException as error:
        show_error()
        bases = [
            str.__str__(kind.__name__)[:80] for kind in type(error).__mro__ if is_builtin(kind)
        ]
        return {"id": number, "e": str.__str__(type(error).__name__)[:80], "b": bases[0]}


def is_builtin(kind: type) -> bool:
    """Whether the tests' process has the same class under the same name."""
    return vars(builtins).get(kind.__name__) is kind


def encode_or_name(value: Any) -> Any:
    try:
        return encode(value)
    except MemoryError:
        raise
    except BaseException:
        return {"o": str.__str__(type(value).__name__)[:80]}


def show_error() -> None:
    """A short traceback on stderr; whatever the program did to `traceback` is its own loss."""
    with contextlib.suppress(BaseException):
        traceback.print_exc(limit=-4)


def flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            pass


class CandidateError(Exception):
    """The candidate raised something that is not a built-in exception."""


class Stub:
    """Stands for the entry point inside the test process; every call is answered over there."""

    def __init__(self, name: str, channel: int = CHANNEL) -> None:
        self.__name__ = name
        self.channel = channel
        self.num_calls = 0
        self.raised: BaseException | None = None
        self.is_gone = False

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        self.num_calls += 1
        message = {
            "id": self.num_calls,
            "f": self.__name__,
            "a": [simplify(item) for item in arguments],
            "k": {name: simplify(item) for name, item in keywords.items()},
        }
        reply = self.exchange(message)
        if reply.get("id") != self.num_calls:
            self.give_up()
        if "e" in reply:
            self.raised = build_exception(str(reply["e"]), str(reply.get("b")))
            raise self.raised
        try:
            if "m" in reply:
                for before, after in zip(arguments, reply["m"], strict=True):
                    write_back(before, decode(after))
            return decode(reply["v"])
        except (ProtocolError, ValueError, KeyError, TypeError):
            self.give_up()

    def exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            if not self.is_gone:
                write_all(self.channel, pack_order(message))
                return receive_frame(self.channel)
        except (EOFError, OSError, ProtocolError):
            pass
        self.give_up()

    def give_up(self) -> NoReturn:
        """Once gone, always gone: tests with a bare `except` must not go on."""
        self.is_gone = True
        raise CandidateGone from None


def build_exception(name: str, base: str) -> Exception:
    """The candidate's exception as the nearest class that both sides know.

    StopIteration is not known: it would quietly end a `map` or `zip` that the tests loop over.
    """
    text = f"candidate raised {name}"
    kind = getattr(builtins, base, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        for known in kind.__mro__:
            if known is StopIteration:
                break
            with contextlib.suppress(TypeError):  # some need more than a text
                error = known(text)
                return error if isinstance(error, Exception) else CandidateError(text)
    return CandidateError(text)


def write_back(before: Any, after: Any) -> None:
    """Tasks that change an argument in place: the caller's object takes the new contents."""
    if type(before) is not type(after) or before == after:
        return
    if isinstance(before, list):
        before[:] = after
    elif isinstance(before, dict | set):
        before.clear()
        before.update(after)


def run_tests() -> None:
    """Run trusted test code in the form that the judge asks for."""
    request = receive_order(VERDICT)
    (run_assertions if "entry_point" in request else run_objects)(request)


def run_assertions(request: dict[str, Any]) -> None:
    """Run `check` against the stub; the nonce goes back only after the last statement."""
    send_frame(VERDICT, check_stub(request, Stub(request["entry_point"])))


def check_stub(request: dict[str, Any], stub: Stub) -> dict[str, Any]:
    """What the tests say about the program behind a stub."""
    names: dict[str, Any] = {"__name__": "tests"}
    report: dict[str, Any] = {"stage": "setup"}
    try:
        exec(compile(request["prelude"], "<prelude>", "exec", dont_inherit=True), names)
        names[request["entry_point"]] = stub
        exec(compile(request["tests"], "<tests>", "exec", dont_inherit=True), names)
        check = names["check"]
        report["stage"] = "check"
        check(stub)
        ping = os.urandom(16).hex()
        if stub.exchange({"ping": ping}).get("pong") != ping:
            stub.give_up()
        report = {"nonce": request["nonce"]}
    except BaseException as error:
        report["error"] = type(error).__name__
        report["is_candidates"] = error is stub.raised
    return {**report, "num_calls": stub.num_calls}


def run_objects(request: dict[str, Any]) -> None:
    """Run tests that use the program's objects; the nonce goes back only if all of them passed."""
    peer = Peer(CHANNEL, serve_callbacks)
    report: dict[str, Any] = {"stage": "setup"}
    try:
        module = prepare_module(request, peer)
        report["stage"] = "check"
        write_all(CHANNEL, pack_order({"objects": True}))
        num_run, num_passed, failure = run_object_tests(request, module, peer)
        ping = os.urandom(16).hex()
        peer.send({"ping": ping})
        if peer.receive().get("pong") != ping:
            peer.give_up()
        report |= {"tests": [num_run, num_passed], "failure": failure}
        if num_run == num_passed:
            report["nonce"] = request["nonce"]
    except BaseException as error:
        report["error"] = type(error).__name__
        report["is_candidates"] = error is peer.raised
    send_frame(VERDICT, {**report, "num_calls": peer.num_asked})
