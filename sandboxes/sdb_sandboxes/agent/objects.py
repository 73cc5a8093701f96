"""Objects used from afar: handles in the tests' process, the objects themselves in the program's.

Place in the flow: `cell.py` hands over to `serve_objects` in the program's cell and to
`run_object_tests` in the tests'. Both ends are a `Peer`: it asks, and while it waits for the answer
it serves what the other side asks (a callback that the tests passed). Plain data travels by value;
anything else stays where it was made and travels as a number.

What a comparison may trust: data is compared with data, decoded, in the tests' process. A handle
equals data only through the plain value that it is an instance of (an `IntEnum`, a named tuple); a
question to the program decides only between two of its own objects. What it does not do: the tests
cannot subclass the program's classes, and a list changed after the call that it was passed to is
not followed. The program may call what the tests passed it, and use the public attributes of
instances of their classes; nothing else of the tests can be reached.
"""

import builtins
import contextlib
import operator
import os
import sys
import types
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, NoReturn, TypeVar

from sdb_sandboxes.agent.codec import (
    MAX_DEPTH,
    Foreign,
    ProtocolError,
    UnsendableError,
    decode,
    encode,
    receive_frame,
    send_frame,
    to_plain_base,
)

PLAIN = (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset)
TYPES: dict[str, type] = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and (kind in (*PLAIN, object) or issubclass(kind, BaseException))
}
"""Classes that both sides have: they travel by name."""
VALUES: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "decimal": (Decimal, lambda v: Decimal.__str__(v), Decimal),
    "fraction": (Fraction, lambda v: [v.numerator, v.denominator], lambda v: Fraction(*v)),
    "datetime": (datetime, lambda v: datetime.isoformat(v), datetime.fromisoformat),
    "date": (date, lambda v: date.isoformat(v), date.fromisoformat),
    "delta": (timedelta, lambda v: [v.days, v.seconds, v.microseconds], lambda v: timedelta(*v)),
    "range": (range, lambda v: [v.start, v.stop, v.step], lambda v: range(*v)),
}
"""Values beyond plain data that travel by value: (type, to plain data, back)."""


MALFORMED = (
    *(ProtocolError, ValueError, LookupError, TypeError, AttributeError),
    *(ArithmeticError, RecursionError, UnsendableError),
)
"""What reading an answer may raise if it is not what this protocol knows."""


class CandidateGone(BaseException):
    """The other process died or broke the protocol: nothing that tests may catch."""


class RemoteError(Exception):
    """The program raised something that tests do not know."""


class Peer:
    """One end of the line between the tests and the program."""

    def __init__(self, channel: int, serve: Callable[["Peer", str, list[Any], Any], Any]) -> None:
        self.channel = channel
        self.serve = serve
        self.num_asked = 0
        self.is_gone = False
        self.exported: list[Any] = []
        self.numbers: dict[int, int] = {}
        self.handles: dict[int, Any] = {}
        self.raised: BaseException | None = None

    def ask(self, question: str, *arguments: Any, **keywords: Any) -> Any:
        """Ask and wait, serving what is asked meanwhile. Raises what was raised over there."""
        self.num_asked += 1
        number = self.num_asked
        packed = [self.pack(item) for item in arguments]
        message = {"id": number, "q": question, "a": packed}
        if keywords:
            message["k"] = {name: self.pack(item) for name, item in keywords.items()}
        self.send(message)
        while True:
            reply = self.receive()
            if "q" in reply:
                self.answer(reply)
                continue
            if reply.get("id") != number:
                self.give_up()
            try:
                if "e" in reply:
                    self.raised = self.build_exception(reply, question)
                else:
                    for before, after in zip(arguments[1:], reply.get("m", ()), strict=False):
                        write_back(before, after if after is None else self.unpack(after))
                    return self.unpack(reply["v"])
            except MALFORMED:
                self.give_up()
            raise self.raised

    def answer(self, message: dict[str, Any]) -> None:
        """Serve one question."""
        reply: dict[str, Any] = {"id": message.get("id")}
        try:
            arguments = [self.unpack(item) for item in message["a"]]
            keywords = {name: self.unpack(item) for name, item in message.get("k", {}).items()}
            reply["v"] = self.pack(self.serve(self, str(message["q"]), arguments, keywords))
            if message["q"] == "call":
                reply["m"] = [
                    self.pack(item) if type(item) in (list, dict, set) else None
                    for item in arguments[1:]
                ]
        except CandidateGone:
            raise
        except BaseException as error:
            reply = {"id": message.get("id"), "e": self.pack_exception(error)}
        self.send(reply)

    def send(self, message: dict[str, Any]) -> None:
        try:
            if not self.is_gone:
                send_frame(self.channel, message)
                return
        except UnsendableError:
            raise RemoteError("a message that is too large") from None
        except OSError:
            pass
        self.give_up()

    def receive(self) -> dict[str, Any]:
        with contextlib.suppress(EOFError, OSError, ProtocolError):
            if not self.is_gone:
                return receive_frame(self.channel)
        self.give_up()

    def give_up(self) -> NoReturn:
        """Once gone, always gone: tests with a bare `except` must not go on."""
        self.is_gone = True
        raise CandidateGone from None

    def pack(self, value: Any, depth: int = 0) -> Any:
        """What travels for a value: itself if it is plain data, else a number."""
        kind = type(value)
        if depth > MAX_DEPTH:
            raise UnsendableError("too deep")
        if kind is Handle:
            return {"r": number_of(value)}
        if kind is list:
            return [self.pack(item, depth + 1) for item in value]
        if kind in (tuple, set, frozenset):
            tag = "t" if kind is tuple else "s" if kind is set else "f"
            return {tag: [self.pack(item, depth + 1) for item in value]}
        if kind is dict:
            return {
                "d": [[self.pack(k, depth + 1), self.pack(v, depth + 1)] for k, v in value.items()]
            }
        if value is None or kind in PLAIN:
            return encode(value)
        for name, (shape, flatten, _) in VALUES.items():
            if kind is shape:
                return {"z": [name, flatten(value)]}
        if isinstance(value, type):
            if TYPES.get(value.__name__) is value:
                return {"y": value.__name__}
            if "_remote_number" in vars(value):
                return {"r": vars(value)["_remote_number"]}
            if issubclass(value, BaseException):
                return {"q": self.list_bases(value)}
        return {"x": [self.export(value), name_type(kind), name_base(kind)]}

    def export(self, value: Any) -> int:
        """The number of one of our objects, the same for the same object."""
        number = self.numbers.get(id(value))
        if number is None:
            number = self.numbers[id(value)] = len(self.exported)
            self.exported.append(value)
        return number

    def list_bases(self, kind: type) -> list[Any]:
        """An exception class: numbers and names up to the first that both sides have."""
        bases: list[Any] = []
        for base in kind.__mro__:
            if TYPES.get(base.__name__) is base:
                return [*bases, base.__name__]
            if issubclass(base, BaseException):
                bases.append([self.export(base), name_type(base)])
        return [*bases, "Exception"]

    def pack_exception(self, error: BaseException) -> dict[str, Any]:
        """What is told about an exception: its class, its arguments and its text."""
        told: dict[str, Any] = {"q": self.list_bases(type(error))}
        with contextlib.suppress(BaseException):
            told["a"] = [self.pack(item) for item in error.args]
            told["s"] = str.__str__(str(error))[:10_000]
            told["x"] = self.export(error)
        return told

    def unpack(self, wire: Any, depth: int = 0) -> Any:
        """Turn what has come back into values and handles, trusting nothing about it."""
        if depth > 2 * MAX_DEPTH:
            raise ProtocolError("too deep")
        if isinstance(wire, list):
            return [self.unpack(item, depth + 1) for item in wire]
        if not isinstance(wire, dict):
            return wire
        ((tag, body),) = wire.items()
        if tag in ("t", "s", "f"):
            items = [self.unpack(item, depth + 1) for item in body]
            return {"t": tuple, "s": set, "f": frozenset}[tag](items)
        if tag == "d":
            return {self.unpack(k, depth + 1): self.unpack(v, depth + 1) for k, v in body}
        if tag == "r":
            if type(body) is not int or body < 0:
                raise ProtocolError("no such object")
            return self.exported[body]
        if tag == "x":
            number, name, base = body
            return self.find_handle(int(number), str(name)[:80], str(base))
        if tag == "y":
            return TYPES[body]
        if tag == "z":
            return VALUES[body[0]][2](body[1])
        if tag == "q":
            return self.find_exception_class(body)
        return decode(wire)

    def find_handle(self, number: int, name: str, base: str) -> "Handle":
        """The one handle of an object over there."""
        if number not in self.handles:
            self.handles[number] = Handle(self, number, name, TYPES.get(base))
        handle = self.handles[number]
        if type(handle) is not Handle:
            raise ProtocolError("a class that is an object")
        return handle

    def find_exception_class(self, bases: list[Any]) -> type[BaseException]:
        """A class of our own for an exception class over there, with the same base classes."""
        *own, known = bases
        kind = TYPES[known]
        if not issubclass(kind, Exception | SystemExit):
            kind = RemoteError  # nothing that ends the tests
        for number, name in reversed(own):
            if number not in self.handles:
                names = {"_remote_number": int(number), "_peer": self, **MIRROR}
                self.handles[number] = type(str(name)[:80], (kind,), names)
            kind = self.handles[number]
            if not isinstance(kind, type):
                raise ProtocolError("an object that is a class")
        return kind

    def build_exception(self, reply: dict[str, Any], question: str) -> BaseException:
        """What was raised over there as an exception of the nearest class that we know.

        StopIteration is only one where an iterator was asked: elsewhere it would quietly end a loop
        of the tests.
        """
        told = reply["e"]
        kind = self.find_exception_class(told["q"])
        if issubclass(kind, StopIteration) and question != "next":
            kind = RemoteError
        arguments = tuple(self.unpack(item) for item in told.get("a", ()))
        error = kind.__new__(kind, *arguments)
        error.args = arguments
        if "_remote_number" in vars(kind):
            vars(error)["_text"] = str(told.get("s", ""))
            vars(error)["_instance"] = told.get("x")
        return error


def read_mirror(error: Any, name: str) -> Any:
    """An attribute that the program gave its exception."""
    number = vars(error).get("_instance")
    if name.startswith("__") or type(number) is not int:
        raise AttributeError(name)
    peer: Peer = type(error)._peer
    return peer.ask("getattr", peer.find_handle(number, "exception", ""), name)


MIRROR: dict[str, Any] = {
    "__str__": lambda error: vars(error).get("_text", ""),
    "__getattr__": read_mirror,
}
"""What our class of a foreign exception does itself."""


def name_type(kind: type) -> str:
    return str.__str__(type.__dict__["__name__"].__get__(kind))[:80]


def name_base(kind: type) -> str:
    """The plain type that a class extends; empty if none."""
    return next((base.__name__ for base in PLAIN if issubclass(kind, base)), "")


def write_back(before: Any, after: Any) -> None:
    """Tasks that change an argument in place: the caller's object takes the new contents."""
    if type(before) is not type(after):
        return
    if type(before) is list:
        before[:] = after
    elif type(before) in (dict, set):
        before.clear()
        before.update(after)


class Handle:
    """Stands for one object of the other process."""

    __slots__ = ("_base", "_name", "_number", "_peer")

    def __init__(self, peer: Peer, number: int, name: str, base: type | None) -> None:
        for field, value in (("peer", peer), ("number", number), ("name", name), ("base", base)):
            object.__setattr__(self, f"_{field}", value)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self._base or Handle

    def __instancecheck__(self, value: Any) -> bool:
        return bool(ask(self, "isinstance", value))

    def __subclasscheck__(self, value: Any) -> bool:
        return bool(ask(self, "issubclass", value))

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._peer.ask("call", self, *arguments, **keywords)

    def __getattr__(self, name: str) -> Any:
        return ask(self, "getattr", name)

    def __setattr__(self, name: str, value: Any) -> None:
        ask(self, "setattr", name, value)

    def __delattr__(self, name: str) -> None:
        ask(self, "delattr", name)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(other) is Handle:
            return ask(self, "eq", other) is True
        return self._base is not None and bool(plain_value(self) == other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        number = ask(self, "hash")
        if type(number) is not int:
            raise TypeError(f"unhashable type: {self._name}")
        return hash(number)

    def __bool__(self) -> bool:
        return ask(self, "bool") is True

    def __len__(self) -> int:
        return expect(ask(self, "len"), int)

    def __str__(self) -> str:
        return expect(ask(self, "str"), str)

    def __repr__(self) -> str:
        return expect(ask(self, "repr"), str)

    def __format__(self, form: str) -> str:
        return expect(ask(self, "format", form), str)

    def __int__(self) -> int:
        return expect(ask(self, "int"), int)

    def __float__(self) -> float:
        return expect(ask(self, "float"), float)

    def __contains__(self, item: object) -> bool:
        return ask(self, "contains", item) is True

    def __iter__(self) -> Iterator[Any]:
        iterator = ask(self, "iter")
        return iterator if type(iterator) is Handle else iter(iterator)

    def __next__(self) -> Any:
        return ask(self, "next")

    def __enter__(self) -> Any:
        return ask(self, "enter")

    def __exit__(self, *arguments: Any) -> bool:
        return ask(self, "exit") is True


def ask(handle: Any, question: str, *arguments: Any) -> Any:
    """Ask the other process about its object."""
    return object.__getattribute__(handle, "_peer").ask(question, handle, *arguments)


def number_of(handle: Any) -> int:
    return int(object.__getattribute__(handle, "_number"))


def plain_value(handle: Any) -> Any:
    """The plain data that an instance of a subclass is; Foreign if it is none."""
    value = ask(handle, "plain")
    return Foreign("handle") if type(value) is Handle else value


Kind = TypeVar("Kind")


def expect(value: Any, kind: type[Kind]) -> Kind:
    """The value, if it is exactly of this type. Raises TypeError."""
    if type(value) is not kind:
        raise TypeError(f"{kind.__name__} expected")
    return value


COMPARED = ("lt", "le", "gt", "ge")
COMPUTED = (
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor"),
    *("lshift", "rshift"),
)
SINGLE = ("neg", "pos", "abs", "invert", "getitem", "setitem", "delitem")


def make_operator(name: str, is_reflected: bool) -> Callable[..., Any]:
    """A method that asks for an operator.

    Data may be compared with the plain value that a handle is, never by the program itself.
    """

    def operate(self: Any, *others: Any) -> Any:
        is_own = all(type(other) is Handle for other in others)
        if name in COMPARED and not is_own:
            if self._base is None:
                return NotImplemented
            return getattr(operator, name)(plain_value(self), *others)
        pair = (*others, self) if is_reflected else (self, *others)
        return self._peer.ask(name, *pair)

    return operate


for _name in (*COMPARED, *COMPUTED, *SINGLE):
    setattr(Handle, f"__{_name.rstrip('_')}__", make_operator(_name, False))
for _name in COMPUTED:
    setattr(Handle, f"__r{_name.rstrip('_')}__", make_operator(_name, True))


SERVED: dict[str, Callable[..., Any]] = {
    **{name: getattr(operator, name) for name in (*COMPARED, *COMPUTED, *SINGLE, "eq", "contains")},
    **{kind.__name__: kind for kind in (bool, str, int, float)},
    **{
        function.__name__: function
        for function in (len, repr, hash, iter, next, format, getattr, setattr, delattr)
    },
    "isinstance": lambda kind, value: isinstance(value, kind),
    "issubclass": lambda kind, value: issubclass(value, kind),
    "plain": to_plain_base,
    "enter": lambda value: type(value).__enter__(value),
    "exit": lambda value: bool(type(value).__exit__(value, None, None, None)),
}
"""What the tests may ask of the program's objects."""


def serve_objects(names: dict[str, Any], channel: int) -> NoReturn:
    """Answer the tests until killed: names of the program, and all about its objects."""
    own_pid = os.getpid()

    def serve(_: Peer, question: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        try:
            if question == "name":
                if arguments[0] not in names:
                    raise NameError(f"the program defines no {arguments[0]!r}")
                return names[arguments[0]]
            if question == "call":
                return arguments[0](*arguments[1:], **keywords)
            return SERVED[question](*arguments)
        finally:
            if os.getpid() != own_pid:
                os._exit(1)
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(BaseException):
                    stream.flush()

    peer = Peer(channel, serve)
    while True:
        message = receive_frame(channel)
        if "ping" in message:
            send_frame(channel, {"pong": message["ping"]})
        else:
            peer.answer(message)


def serve_callbacks(_: Peer, question: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
    """Answer the program about what the tests passed it: call it, use what it shows in public."""
    subject, rest = arguments[0], arguments[1:]
    is_of_tests = type(subject).__module__ == "tests"
    if question == "call" and callable(subject) and not isinstance(subject, Handle):
        return subject(*rest, **keywords)
    if question in ("iter", "next", "len", "str", "repr", "bool", "hash", "eq", "getitem"):
        return SERVED[question](subject, *rest)
    if question in ("getattr", "setattr") and is_of_tests and not str(rest[0]).startswith("_"):
        return SERVED[question](subject, *rest)
    raise TypeError(f"the tests do not answer {question}")


def prepare_module(request: dict[str, Any], peer: Peer) -> types.ModuleType:
    """The module that the tests will run in, with their imports; not yet a word to the program."""
    module = types.ModuleType("tests")
    sys.modules["tests"] = module
    if request["module"]:
        program = types.ModuleType(request["module"])
        program.__getattr__ = lambda name: fetch_name(peer, name)  # type: ignore[method-assign]
        sys.modules[request["module"]] = program
    exec(compile(request["prelude"], "<prelude>", "exec", dont_inherit=True), module.__dict__)
    return module


def run_object_tests(
    request: dict[str, Any], module: types.ModuleType, peer: Peer
) -> tuple[int, int, str]:
    """Run a script, or the unittest cases that it defines, with handles for the program's names.

    Returns:
        How many tests were begun and passed, and the first that failed, with why.

    Raises:
        BaseException: What the script raised.
    """
    for name in request["names"]:
        module.__dict__[name] = peer.ask("name", name)
    exec(compile(request["tests"], "<tests>", "exec", dont_inherit=True), module.__dict__)
    if not request["test_ids"]:
        return 1, 1, ""
    return run_cases(module, request["test_ids"], peer)


def fetch_name(peer: Peer, name: str) -> Any:
    """An attribute of the program's module, for `from module import name`."""
    if name.startswith("__"):
        raise AttributeError(name)
    try:
        return peer.ask("name", name)
    except NameError as error:
        raise AttributeError(*error.args) from None


def is_left_out(case: Any) -> bool:
    """Whether a case is marked in its source as one that is never run."""
    method = getattr(case, case._testMethodName)
    return any(getattr(part, "__unittest_skip__", False) for part in (type(case), method))


def run_cases(module: types.ModuleType, ids: list[str], peer: Peer) -> tuple[int, int, str]:
    """Run exactly the unittest cases that are expected. Raises LookupError if others are there."""
    import unittest

    cases = {
        f"{type(case).__name__}.{case._testMethodName}": case
        for kind in list(vars(module).values())
        if type(kind) is type and issubclass(kind, unittest.TestCase)
        for case in unittest.defaultTestLoader.loadTestsFromTestCase(kind)
        if isinstance(case, unittest.TestCase) and not is_left_out(case)
    }
    if set(cases) != set(ids):
        raise LookupError("the tests are not those of the data set")
    num_passed, failure = 0, ""
    for number, name in enumerate(ids, 1):
        result = unittest.TestResult()
        unittest.TestSuite([cases[name]]).run(result)
        is_passed = result.testsRun == 1 and result.wasSuccessful() and not result.skipped
        num_passed += is_passed
        if not is_passed and not failure:
            failure = name
        if peer.is_gone:
            return number, num_passed, failure
    return len(ids), num_passed, failure
