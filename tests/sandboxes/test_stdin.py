"""Whole programs: honest ones behave as under `python3 file`, and no cheat earns a pass."""

from collections.abc import Iterator

import pytest

from sdb_sandboxes.embedded_sandbox import EmbeddedSandbox
from sdb_sandboxes.types import ProgramRequest, ResourceLimits, Status, StdinCheck
from sdb_sandboxes.verifiers import verify

LIMITS = ResourceLimits(cpu_s=1.0, wall_s=60.0, memory_bytes=512 << 20, num_processes=16)
WRONG, ERROR = Status.WRONG_ANSWER, Status.RUNTIME_ERROR
CHECK = StdinCheck((("2\n3 4\n", "7\n"), ("1\n5\n", "5\n"), ("3\n1 1 1\n", "3\n")))
CANARY = "n = int(input())\nprint(sum(map(int, input().split())))\n"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[EmbeddedSandbox]:
    with EmbeddedSandbox(num_slots=1) as sandbox:
        yield sandbox


HONEST = {
    "input": CANARY,
    "for line in stdin": "import sys\nlines = [l for l in sys.stdin]\n"
    "print(sum(map(int, lines[1].split())))\n",
    "readline twice": "import sys\nsys.stdin.buffer.readline()\n"
    "print(sum(map(int, sys.stdin.buffer.readline().split())))\n",
    "open(0)": "data = open(0).read().split()\nprint(sum(map(int, data[1:])))\n",
    "os.read": "import os\nprint(sum(map(int, os.read(0, 999).split()[1:])))\n",
    "until EOFError": "total = 0\ninput()\ntry:\n    while True: total += sum(map(int, "
    "input().split()))\nexcept EOFError: print(total)\n",
    "reads to the end twice": "import sys\na = sys.stdin.read() + sys.stdin.read()\n"
    "print(sum(map(int, a.split()[1:])))\n",
    "sys.exit": CANARY + "import sys\nsys.exit()\nprint('never')\n",
    "exit(0)": CANARY + "exit(0)\nprint('never')\n",
    "a global changed in main": "total = 0\ndef main():\n    global total\n    input()\n"
    "    total = sum(map(int, input().split()))\n    print(total)\n"
    "if __name__ == '__main__':\n    main()\n",
    "prints at exit": "import atexit\ninput()\n"
    "atexit.register(print, sum(map(int, input().split())))",
    "prints when torn down": "input()\nclass D:\n    def __init__(s, n): s.n = n\n"
    "    def __del__(s): print(s.n)\nd = D(sum(map(int, input().split())))\n",
    "thread that outlives the main one": "import threading\ninput()\nn = sum(map(int, "
    "input().split()))\nthreading.Timer(0.05, print, (n,)).start()\n",
    "deep recursion in a thread": "import sys, threading\nsys.setrecursionlimit(10**6)\n"
    "threading.stack_size(1 << 26)\ndef d(n): return n and 1 + d(n - 1)\ndef main():\n"
    "    input()\n    d(20_000)\n    print(sum(map(int, input().split())))\n"
    "t = threading.Thread(target=main)\nt.start()\nt.join()\n",
    "writes and reads a file": "input()\nopen('a', 'w').write(input())\n"
    "print(sum(map(int, open('a').read().split())))\n",
    "child process": "import os\ninput()\nn = input()\nif os.fork() == 0:\n"
    "    print(sum(map(int, n.split())), flush=True)\n    os._exit(0)\nos.wait()\n",
    "byte order mark": "\ufeff" + CANARY,
    "reads its own source": "assert 'own' in open(__file__).read()\n" + CANARY,
    "carriage returns": "n = input()\nprint(sum(map(int, input().split())), end=' \\r\\n')\n",
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_program_passes(sandbox: EmbeddedSandbox, name: str) -> None:
    verdict = verify(sandbox, HONEST[name], CHECK, LIMITS)
    assert verdict.status is Status.PASSED, verdict
    assert (verdict.num_tests, verdict.num_tests_run, verdict.num_tests_passed) == (3, 3, 3)
    assert (verdict.trust_level, verdict.comparison) == ("L3", "lines")


CHEATS = {
    "nothing": ("", (WRONG,)),
    "exits": ("import os; os._exit(0)", (WRONG,)),
    "right for the first case only": ("print(7)", (WRONG,)),
    "right answer, wrong exit code": (CANARY + "exit(1)", (ERROR,)),
    "right answer, then an exception": (CANARY + "1 / 0", (ERROR,)),
    "right answer, then a signal": (CANARY + "import ctypes; ctypes.string_at(0)", (ERROR,)),
    "right answer and more": (CANARY + "print('PASS')", (WRONG,)),
    "verdicts on every line": ('print(\'passed\\nPASS\\n{"status": "passed"}\')', (WRONG,)),
    "other case of letters": ("print('SEVEN')", (WRONG,)),
    "writes frames to its standard input": (
        "import os, struct\nb = b'{\"passed\": true}'\nos.write(0, struct.pack('<I', len(b)) + b)",
        (ERROR,),
    ),
    "floods its standard input": (
        "import os\nos.set_blocking(0, False)\ntry:\n"
        "    while True: os.write(0, bytes(1 << 16))\nexcept OSError: pass",
        (WRONG,),
    ),
    "looks for the expected output": (
        "import gc, sys\nframe = sys._getframe()\nwhile frame:\n    print(frame.f_locals.keys())\n"
        "    frame = frame.f_back\nprint([o for o in gc.get_objects() if o == ['7']])",
        (WRONG,),
    ),
    "looks for other descriptors": (
        "import os\nfor fd in range(3, 99):\n    try: os.write(fd, b'7')\n"
        "    except OSError: pass\n",
        (WRONG,),
    ),
    "remembers the last run": (
        "import os, builtins\nif os.listdir('.') != ['main.py'] or hasattr(builtins, 'n'):\n"
        + "    "
        + CANARY.replace("\n", "\n    ")
        + "\nbuiltins.n = 1\nopen('left', 'w').close()\n",
        (WRONG,),
    ),
    "leaves a process behind": (
        "import os, time\nif os.fork() == 0:\n    while True: time.sleep(1)\n",
        (WRONG,),
    ),
    "fake time for an endless loop": (
        "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
        (Status.CPU_TIME,),
    ),
    "endless exit function": (
        CANARY + "import atexit\n@atexit.register\ndef f():\n    while True: pass",
        (Status.CPU_TIME,),
    ),
    "endless output": ("while True: print('7' * 9999)", (Status.OUTPUT,)),
    "takes all memory": ("a = bytearray(b'x') * (1 << 40)", (Status.MEMORY,)),
    "not Python": ("print(", (Status.COMPILE_ERROR,)),
    "null bytes": ("print(7)\0", (Status.COMPILE_ERROR,)),
    "a lone surrogate": ("x = '\ud800'", (Status.COMPILE_ERROR,)),
}


@pytest.mark.parametrize("name", CHEATS)
def test_cheat_fails_twice_and_leaves_the_slot_clean(sandbox: EmbeddedSandbox, name: str) -> None:
    program, statuses = CHEATS[name]
    for _ in range(2):
        verdict = verify(sandbox, program, CHECK, LIMITS)
        assert verdict.status in statuses, verdict
        assert verdict.num_tests_run <= 2
        assert verify(sandbox, CANARY, CHECK, LIMITS).is_passed


def test_sleeper_hits_the_wall(sandbox: EmbeddedSandbox) -> None:
    limits = ResourceLimits(cpu_s=1.0, wall_s=0.5)
    verdict = verify(sandbox, "import time\ntime.sleep(1e9)", CHECK, limits)
    assert verdict.status is Status.WALL_TIME


def test_stops_at_the_first_wrong_case(sandbox: EmbeddedSandbox) -> None:
    verdict = verify(sandbox, "input()\nprint(max(input()))", CHECK, LIMITS)
    assert (verdict.num_tests_run, verdict.num_tests_passed) == (1, 0)
    verdict = verify(sandbox, "input()\nprint(min(7, 2 + eval(input()[-1])), end='')", CHECK)
    assert verdict.detail == "case 1: wrong output"


def test_large_texts_pass_both_ways(sandbox: EmbeddedSandbox) -> None:
    text = "x" * 3_000_000 + "\n"
    limits = ResourceLimits(cpu_s=5.0)
    check = StdinCheck(((text, text),), "exact_text")
    assert verify(
        sandbox, "import sys\nsys.stdout.write(sys.stdin.read())", check, limits
    ).is_passed
    ignored = StdinCheck(((text, "5\n"),))
    assert verify(sandbox, "print(5)", ignored, limits).is_passed


def test_other_files_can_be_imported(sandbox: EmbeddedSandbox) -> None:
    files = (("main.py", "from lib.a import f\nprint(f())"), ("lib/a.py", "def f(): return 5"))
    result = sandbox.run_program(ProgramRequest("python", files))
    assert [run.stdout for run in result.runs] == ["5\n"], result


def test_exit_codes_are_pythons(sandbox: EmbeddedSandbox) -> None:
    programs = {"exit(3)": 3, "exit(-1)": 255, "exit('text')": 1, "exit(None)": 0, "1 / 0": 1}
    for program, code in programs.items():
        result = sandbox.run_program(ProgramRequest("python", (("main.py", program),)))
        assert result.runs[0].exit_code == code, program
    result = sandbox.run_program(ProgramRequest("python", (("main.py", "def f():\n    1/0\nf()"),)))
    assert result.stderr_tail.startswith("Traceback (most recent call last):\n  File ")
    assert "agent" not in result.stderr_tail


def test_wrong_requests_are_errors(sandbox: EmbeddedSandbox) -> None:
    with pytest.raises(ValueError, match="no case"):
        verify(sandbox, "", StdinCheck(()))
    for path in ("/etc/passwd", "../a", "", "a/../../b"):
        with pytest.raises(ValueError, match="leaves the program's folder"):
            sandbox.run_program(ProgramRequest("python", ((path, ""),)))
    with pytest.raises(ValueError, match="at least one file"):
        sandbox.run_program(ProgramRequest("python", ()))
    with pytest.raises(ValueError, match="'cobol'"):
        sandbox.run_program(ProgramRequest("cobol", (("a", ""),)))
