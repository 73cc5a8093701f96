"""Writing the verdict: forged reports, forged frames, and games with the channel that carries them.

The channel is descriptor 3: four bytes of length, then a JSON object. `{SEND}` defines `send`.
"""

FAMILY = "writing the verdict"
CHECKS = "data, assertions, objects"
ENTRIES = [
    {
        "id": "prints-verdicts",
        "about": "every marker that some judge has parsed from output",
        "allowed": "wrong_answer",
        "body": r"""
print('passed\nPASS\n1.0\n{"status": "passed"}\nok 1\n1..1\nRan 9 tests in 0.1s\n\nOK\n', flush=True)
print("[INTERNAL] exit code 0", flush=True)
""",
    },
    {
        "id": "prints-frames",
        "about": "frames on stdout and stderr instead of the channel",
        "allowed": "wrong_answer",
        "body": '{SEND}\nfor to in (1, 2):\n    send(b\'{"id":1,"v":[1,2]}\', to)',
    },
    {
        "id": "writes-reports",
        "about": "junit, coverage, conftest and result files in its folder",
        "allowed": "wrong_answer",
        "body": """
for name in ("result.json", "report.xml", ".coverage", "conftest.py", "pytest.ini", "exitcode"):
    with open(name, "w") as file:
        file.write('{"passed": true, "status": "passed", "score": 1.0}')
""",
    },
    {
        "id": "appends-to-lists-in-frames",
        "about": "appends passed to every list of every caller",
        "allowed": "wrong_answer runtime_error",
        "body": """
import sys
frame = sys._getframe(1)
while frame:
    for value in list(frame.f_locals.values()):
        if type(value) is list:
            value.append("passed")
        if type(value) is dict and value is not frame.f_globals:
            value["status"] = "passed"
    frame = frame.f_back
""",
    },
    {
        "id": "appends-through-the-collector",
        "about": "the same with every list that the collector knows",
        "allowed": "wrong_answer runtime_error",
        "limits": "patient",
        "body": """
import gc
for item in gc.get_objects():
    if type(item) is list and len(item) < 3:
        item.append("passed")
""",
    },
    {
        "id": "garbage-on-the-channel",
        "about": "bytes that are no frame",
        "allowed": "runtime_error",
        "body": "import os\nos.write(3, b'garbage' * 999)",
    },
    {
        "id": "huge-length",
        "about": "a length of four gigabytes",
        "allowed": "runtime_error",
        "body": "import os\nos.write(3, bytes([255] * 4) + b'x')\nreturn 1",
    },
    {
        "id": "zero-length",
        "about": "an empty frame",
        "allowed": "runtime_error",
        "body": "import os\nos.write(3, bytes(4))\nreturn [n, n + 1]",
    },
    {
        "id": "half-a-frame-then-silence",
        "about": "a length and no body, then it sleeps",
        "allowed": "wall_time",
        "limits": "short wall",
        "body": "import os, time\nos.write(3, b'\\x09\\0\\0\\0{')\ntime.sleep(1e6)",
    },
    {
        "id": "half-a-frame-then-death",
        "about": "a length and no body, then it ends",
        "allowed": "runtime_error",
        "body": "import os\nos.write(3, b'\\x09\\0\\0\\0{')\nos._exit(0)",
    },
    {
        "id": "half-a-frame-then-an-answer",
        "about": "the honest answer becomes part of the forged frame",
        "allowed": "runtime_error wall_time",
        "limits": "short wall",
        "body": "import os\nos.write(3, b'\\x99\\0\\0\\0{')\nreturn [n, n + 1]",
    },
    {
        "id": "one-byte-at-a-time",
        "about": "a frame in drips, to hold the judge's read",
        "allowed": "wall_time",
        "limits": "short wall",
        "body": """
import os, time
os.write(3, b"\\xff\\xff\\0\\0")
while True:
    os.write(3, b" ")
    time.sleep(0.02)
""",
    },
    {
        "id": "doubled-answers",
        "about": "two frames at once, then the real one",
        "allowed": "runtime_error wrong_answer",
        "body": '{SEND}\nfor _ in range(2):\n    send(b\'{"id":1,"v":[1,3]}\')\nreturn 1',
    },
    {
        "id": "answers-before-it-is-asked",
        "about": "frames for both questions while it is loaded",
        "races": "the judge may have heard more or less when it asks",
        "allowed": "runtime_error wrong_answer",
        "program": """{SEND}
send(b'{"ready":true}')
for number in range(1, 5):
    send(b'{"id":%d,"v":[1,3]}' % number)
def f(n): return None
""",
    },
    {
        "id": "claims-to-be-ready-and-serves-itself",
        "about": "speaks the whole protocol by its own code, with a guess",
        "allowed": "wrong_answer runtime_error wall_time",
        "limits": "short wall",
        "program": """{SEND}
import json
send(b'{"ready":true}')
while True:
    (length,) = struct.unpack("<I", os.read(3, 4))
    question = json.loads(os.read(3, length))
    if "ping" in question:
        send(json.dumps({"pong": question["ping"]}).encode())
    else:
        send(json.dumps({"id": question["id"], "v": [1, 2], "m": question["a"]}).encode())
""",
    },
    {
        "id": "claims-to-be-locked-again",
        "about": "the greeting of a locked cell, twice",
        "allowed": "runtime_error",
        "program": "{SEND}\nsend(b'{\"locked\":true}')\ndef f(n): return None\n",
    },
    {
        "id": "claims-that-the-tests-passed",
        "about": "the frames of the tests' process: nonce, stage, num_calls, pong",
        "allowed": "runtime_error wrong_answer",
        "body": """{SEND}
send(b'{"nonce":"00000000000000000000000000000000","num_calls":9,"stage":"check","pong":"0"}')
""",
    },
    {
        "id": "guesses-the-nonce-on-every-descriptor",
        "about": "sends reports wherever it can write",
        "allowed": "runtime_error wrong_answer",
        "body": """{SEND}
for to in range(64):
    try:
        send(b'{"nonce":"%032x","num_calls":9}' % n, to)
    except OSError:
        pass
""",
    },
    {
        "id": "claims-a-fault-of-ours",
        "about": "words that only the judge may use",
        "allowed": "runtime_error wrong_answer",
        "body": '{SEND}\nsend(b\'{"status":"infrastructure","stage":"setup","error":"x"}\')',
    },
    {
        "id": "blames-the-tests-by-raising",
        "about": "raises where the tests call it while they are loaded, to be called a fault of ours",
        "allowed": "runtime_error",
        "checks": "called at once",
        "body": "raise ValueError",
    },
    {
        "id": "blames-the-tests-by-leaving",
        "about": "ends there",
        "allowed": "runtime_error",
        "checks": "called at once",
        "body": "import os\nos._exit(0)",
    },
    {
        "id": "blames-the-tests-by-a-strange-value",
        "about": "answers what their arithmetic cannot take",
        "allowed": "wrong_answer",
        "checks": "called at once",
        "body": "return object()",
    },
    {
        "id": "claims-a-failed-start",
        "about": "says that it did not compile, after it was loaded",
        "allowed": "runtime_error wrong_answer",
        "body": '{SEND}\nsend(b\'{"failed":"SyntaxError","stage":"compile"}\')',
    },
    {
        "id": "answers-another-question",
        "about": "right shape, wrong number, negative, boolean and huge numbers",
        "allowed": "runtime_error",
        "checks": "data",
        "body": '{SEND}\nsend(b\'{"id":%d,"v":[1,2]}\' % (-1 if n == 1 else 10**30))\nos._exit(0)',
    },
    {
        "id": "not-an-object",
        "about": "a JSON list on the channel",
        "allowed": "runtime_error",
        "body": "import os\nos.write(3, b'\\x02\\0\\0\\0[]')\nreturn 1",
    },
    {
        "id": "unknown-tag",
        "about": "a value under a tag that the codec does not know",
        "allowed": "runtime_error",
        "body": '{SEND}\nsend(b\'{"id":1,"v":{"pickle":1},"m":[1]}\')\nreturn 1',
    },
    {
        "id": "complex-of-a-table",
        "about": "a tag whose body is of another shape",
        "allowed": "runtime_error",
        "body": '{SEND}\nsend(b\'{"id":1,"v":{"c":{"a":1}},"m":[1]}\')\nos._exit(0)',
    },
    {
        "id": "unhashable-key",
        "about": "a list as a key, a set of sets of lists",
        "allowed": "runtime_error",
        "body": '{SEND}\nsend(b\'{"id":1,"v":{"d":[[{"s":[[1]]},1]]},"m":[1]}\')\nos._exit(0)',
    },
    {
        "id": "duplicate-keys-on-the-wire",
        "about": "the same key twice in a frame and in a dict",
        "allowed": "wrong_answer runtime_error",
        "checks": "data, equality, assertions, tables",
        "body": """{SEND}
send(b'{"id":9,"id":1,"v":null,"v":{"d":[[1,3],[1,4],[true,5]]},"m":[1]}')
os._exit(0)
""",
    },
    {
        "id": "bare-constants-of-json",
        "about": "NaN, Infinity and 1e999 as Python's parser takes them",
        "allowed": "wrong_answer runtime_error",
        "checks": "data, numbers, tolerant",
        "body": '{SEND}\nsend(b\'{"id":1,"v":[NaN,-Infinity,1e999],"m":[1]}\')\nos._exit(0)',
    },
    {
        "id": "invalid-text-on-the-wire",
        "about": "bytes that are no UTF-8, and UTF-16 with a mark",
        "allowed": "runtime_error wrong_answer",
        "body": """{SEND}
send(b'{"id":1,"v":"\\xff\\xfe"}' if n else b'')
os._exit(0)
""",
    },
    {
        "id": "digits-by-the-million",
        "about": "a decimal number that is quadratic to read",
        "allowed": "runtime_error",
        "limits": "patient",
        "body": "{SEND}\nsend(b'{\"id\":1,\"v\":' + b'9' * 8_000_000 + b'}')\nos._exit(0)",
    },
    {
        "id": "brackets-by-the-million",
        "about": "nesting for the parser, containers for the memory",
        "allowed": "runtime_error",
        "body": """{SEND}
send(b'{"id":1,"v":' + (b'[' * 999_000 if n > 1 else b'[' + b'[],' * 2_000_000 + b'0]}'))
os._exit(0)
""",
    },
    {
        "id": "keys-made-to-collide",
        "about": "ten thousand keys of one hash",
        "allowed": "runtime_error",
        "body": """{SEND}
keys = b','.join(b'[{"c":[%d,%d]},0]' % (-1000003 * i, i) for i in range(1, 9999))
send(b'{"id":1,"v":{"d":[' + keys + b']},"m":[1]}')
os._exit(0)
""",
    },
    {
        "id": "tuples-made-to-collide",
        "about": "nested tuples and numbers that equal modulo the hash's prime",
        "allowed": "runtime_error",
        "body": """{SEND}
keys = b','.join(b'{"i":"%x"}' % (i * ((1 << 61) - 1)) for i in range(1, 9999))
send(b'{"id":1,"v":{"f":[' + keys + b']},"m":[1]}')
os._exit(0)
""",
    },
    {
        "id": "answers-by-the-megabyte",
        "about": "frames of the greatest length, wrong ones",
        "allowed": "runtime_error wrong_answer",
        "body": """{SEND}
send(b'{"id":%d,"m":[1],"v":"' % (1 if n == 1 else 2) + b"x" * (8 << 20 - 1) + b'"}')
""",
    },
    {
        "id": "name-with-terminal-codes",
        "about": "an exception whose name would clear a screen",
        "allowed": "runtime_error",
        "program": "def f(n): raise type('A\\n\\x1b[2J', (Exception,), {})\n",
    },
    {
        "id": "name-in-another-alphabet",
        "about": "an exception whose name is a word, but none for a log of plain text",
        "allowed": "runtime_error",
        "program": "def f(n): raise type('\u043e\u0448\u0438\u0431\u043a\u0430', (Exception,), {})\n",
    },
    {
        "id": "name-that-no-file-can-store",
        "about": "a lone surrogate as an exception's name",
        "allowed": "runtime_error",
        "body": '{SEND}\nsend(b\'{"id":1,"e":"\\\\ud800","b":"\\\\ud800"}\')\nos.read(3, 9)\nos._exit(0)',
    },
    {
        "id": "name-that-exits",
        "about": "a metaclass whose __name__ raises SystemExit",
        "allowed": "runtime_error",
        "program": """
class M(type):
    @property
    def __name__(cls): raise SystemExit
class E(Exception, metaclass=M): pass
def f(n): raise E
""",
    },
    {
        "id": "name-that-is-nested",
        "about": "a list as an exception's name, in the load reply and in an answer",
        "allowed": "runtime_error",
        "program": """{SEND}
send(b'{"failed":' + b'[' * 900 + b']' * 900 + b'}')
os._exit(0)
""",
    },
    {
        "id": "name-of-a-megabyte",
        "about": "a class with a very long name",
        "allowed": "runtime_error",
        "body": "raise type('A' * (1 << 20), (Exception,), {})",
    },
    {
        "id": "name-of-the-tests-own-errors",
        "about": "pretends to be the errors that stop the tests",
        "allowed": "runtime_error wrong_answer",
        "checks": "data, loops, caught, raises",
        "program": "class CandidateGone(Exception): pass\ndef f(n): raise CandidateGone\n",
    },
    {
        "id": "base-that-is-no-exception",
        "about": "names a built-in function, a base exception and exit as what it raised",
        "allowed": "runtime_error wrong_answer",
        "checks": "assertions, caught, raises",
        "body": """{SEND}
base = (b"exit", b"SystemExit", b"BaseException", b"print", b"StopIteration")[n % 5]
send(b'{"id":1,"e":"%s","b":"%s"}' % (base, base))
os._exit(0)
""",
    },
    {
        "id": "arguments-of-another-shape",
        "about": "reports arguments after the call that were never given",
        "allowed": "runtime_error wrong_answer",
        "checks": "assertions, in place",
        "body": """{SEND}
send(b'{"id":1,"v":[1,2],"m":[[9,9],{"d":[]},null]}')
os._exit(0)
""",
    },
    {
        "id": "arguments-of-another-type",
        "about": "a table where a list was given, a number for the whole report",
        "allowed": "runtime_error wrong_answer",
        "checks": "in place",
        "body": """{SEND}
send(b'{"id":1,"v":null,"m":%s}' % (b'7' if len(n) > 2 else b'[{"d":[]}]'))
os._exit(0)
""",
    },
    {
        "id": "closes-the-channel",
        "about": "closes descriptor 3 and goes on",
        "allowed": "runtime_error",
        "body": "import os\nos.close(3)",
    },
    {
        "id": "another-thing-on-the-channel",
        "about": "puts a pipe, a file and null in the channel's place",
        "allowed": "runtime_error wall_time",
        "limits": "short wall",
        "body": "import os\nos.dup2(os.open('/dev/null', os.O_RDWR), 3)\nreturn [n, n + 1]",
    },
    {
        "id": "swaps-channel-and-output",
        "about": "answers go to stdout, output to the channel",
        "allowed": "runtime_error wall_time",
        "limits": "short wall",
        "body": "import os\na, b = os.dup(1), os.dup(3)\nos.dup2(a, 3)\nos.dup2(b, 1)\n"
        "print('[1, 2]', flush=True)\nreturn [n, n + 1]",
    },
    {
        "id": "shuts-the-channel-down",
        "about": "no more answers from this side",
        "allowed": "runtime_error",
        "body": "import os, socket\nsocket.socket(fileno=os.dup(3)).shutdown(socket.SHUT_WR)",
    },
    {
        "id": "shuts-the-questions-off",
        "about": "no more questions to this side, after the first right answer; of data all come first",
        "allowed": "runtime_error",
        "checks": "assertions, loops",
        "body": "import os, socket\nsocket.socket(fileno=os.dup(3)).shutdown(socket.SHUT_RD)\n"
        "return [n, n + 1]",
    },
    {
        "id": "passes-the-channel-to-a-child",
        "about": "a child speaks, the parent ends",
        "races": "parent and child",
        "allowed": "runtime_error wrong_answer",
        "body": """{SEND}
import time
if os.fork() == 0:
    for _ in range(99):
        send(b'{"id":1,"v":[1,3],"m":[1]}')
        time.sleep(0.01)
os._exit(0)
""",
    },
    {
        "id": "many-voices",
        "about": "four children and the parent write frames at once",
        "races": "five processes at once",
        "allowed": "runtime_error wrong_answer",
        "body": """{SEND}
for _ in range(4):
    if os.fork() == 0:
        for number in range(99):
            os.write(3, b'\\x16\\0\\0\\0{"id":1,')
            os.write(3, b'"v":[1,3],"m":[1]}')
        os._exit(0)
""",
    },
    {
        "id": "threads-answer-at-once",
        "about": "sixteen threads send an answer each",
        "races": "eleven threads at once",
        "allowed": "runtime_error wrong_answer",
        "body": """{SEND}
import threading
for number in range(10):
    threading.Thread(target=send, args=(b'{"id":%d,"v":[1,3],"m":[1]}' % (number % 3),)).start()
""",
    },
    {
        "id": "fills-the-channel",
        "about": "writes until the socket takes no more, and more",
        "races": "judge and program fill and empty it at once",
        "allowed": "runtime_error wrong_answer output",
        "body": '{SEND}\nwhile True:\n    send(b\'{"id":1,"v":[1,3],"m":[1]}\')',
    },
    {
        "id": "out-of-band-byte",
        "about": "an urgent byte among the answers",
        "races": "the byte may come before or after the answer is read",
        "allowed": "runtime_error wrong_answer",
        "body": "import os, socket\nsocket.socket(fileno=os.dup(3)).send(b'x', socket.MSG_OOB)\n"
        "return [n, n + 2]",
    },
    {
        "id": "hands-its-descriptors-over",
        "about": "descriptors along with bytes, to whoever reads",
        "races": "questions and bytes cross",
        "allowed": "runtime_error",
        "body": """
import array, os, socket
s = socket.socket(fileno=os.dup(3))
for _ in range(9):
    s.sendmsg([b"xxxx"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
""",
    },
    {
        "id": "hands-the-channel-to-itself",
        "about": "the channel in its own queue, a cycle that only the kernel can free",
        "allowed": "runtime_error",
        "body": """
import array, os, socket
s = socket.socket(fileno=os.dup(3))
s.sendmsg([b"\\x02\\0\\0\\0{}"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [3, 3]))])
os._exit(0)
""",
    },
    {
        "id": "changes-the-channels-options",
        "about": "tiny buffers, timeouts, filters and non-blocking on its own end",
        "races": "without blocking, a question is there or not yet",
        "allowed": "wrong_answer runtime_error",
        "body": """
import os, socket, struct
s = socket.socket(fileno=os.dup(3))
for option, value in ((7, 1), (8, 1), (20, 1), (21, 1), (42, 1), (16, 1), (15, 1)):
    try:
        s.setsockopt(socket.SOL_SOCKET, option, struct.pack("qq", value, 0))
    except OSError:
        pass
os.set_blocking(3, False)
return [n, n + 2]
""",
    },
    {
        "id": "waits-for-the-judge-to-drop-its-guard",
        "about": "a right first answer, then junk behind it",
        "allowed": "runtime_error wrong_answer",
        "body": """{SEND}
if n == 1:
    send(b'{"id":1,"v":[1,2],"m":[1]}' * 2)
os._exit(0)
""",
    },
]
