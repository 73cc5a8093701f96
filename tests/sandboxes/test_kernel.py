"""The seccomp filter as a program: what it answers, read by an interpreter of its few codes."""

import struct

import pytest

from sdb_sandboxes.agent import kernel

ALLOW, REFUSE, UNKNOWN, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000


def ask(filter_bytes: bytes, number: int, *arguments: int, arch: int = kernel.AUDIT_ARCH) -> int:
    """Run the filter on one system call; fails the test if a jump leaves the program."""
    data = struct.pack("<IIQ6Q", number, arch, 0, *arguments, *(0,) * (6 - len(arguments)))
    lines = list(struct.iter_unpack("<HBBI", filter_bytes))
    place, value = 0, 0
    while True:
        code, if_true, if_false, operand = lines[place]
        place += 1
        if code == 0x06:
            return int(operand)
        if code == 0x20:
            (value,) = struct.unpack_from("<I", data, operand)
        elif code == 0x05:
            place += operand
        else:
            holds = {0x15: value == operand, 0x35: value >= operand, 0x45: value & operand != 0}
            place += if_true if holds[code] else if_false


@pytest.mark.parametrize("own_pid", [None, 4321])
def test_every_number_outside_the_list_is_refused(own_pid: int | None) -> None:
    listed = set[int]()
    for part in kernel.ALLOWED.split():
        low, _, high = part.partition("-")
        listed |= set(range(int(low), int(high or low) + 1))
    listed |= {kernel.CLONE, kernel.KILL, kernel.TGKILL}
    code = kernel.build_seccomp_filter(own_pid)
    for number in range(1000):
        answer = ask(code, number)
        if number in listed:
            assert answer in (ALLOW, REFUSE), number
        else:
            assert answer == (REFUSE if number < 424 else UNKNOWN), number
    assert ask(code, 0x40000000) == UNKNOWN
    assert ask(code, 1, arch=0x40000003) == KILL


def test_commands_keep_the_ordinary_scheduler() -> None:
    code = kernel.build_seccomp_filter(None, is_command=True)
    ((number, index, (policy,)),) = kernel.COMMAND_ARGUMENTS
    assert ask(code, number, 0, policy) == ALLOW
    for other in range(1, 8):  # batch, idle, real time, deadline
        assert ask(code, number, *(1,) * index, other) == REFUSE
    assert ask(kernel.build_seccomp_filter(None), number, 0, policy) == REFUSE


def test_arguments_decide_where_they_must() -> None:
    code, narrow = kernel.build_seccomp_filter(None), kernel.build_seccomp_filter(4321)
    for number, index, values in kernel.ALLOWED_ARGUMENTS:
        if number != kernel.PRCTL and number != kernel.PRLIMIT64 and index:
            assert ask(code, number, *(0,) * index, 0x7777) == REFUSE
        if len([row for row in kernel.ALLOWED_ARGUMENTS if row[0] == number]) == 1:
            for value in values:
                assert ask(code, number, *(0,) * index, value) == ALLOW
    assert ask(code, kernel.CLONE, kernel.NEW_USER) == REFUSE
    assert ask(code, kernel.CLONE, 0x01200011) == ALLOW
    assert ask(code, kernel.SIGACTION, 17) == REFUSE
    assert ask(code, kernel.KILL, 1) == ALLOW
    assert ask(narrow, kernel.KILL, 1) == REFUSE
    assert ask(narrow, kernel.KILL, 4321) == ALLOW
    read_attribute = 8 if kernel.IS_ARM else 191
    for number in (*kernel.HOST_FILES, *kernel.GROUPS, read_attribute):
        assert ask(code, number) == ALLOW
        assert ask(narrow, number) == REFUSE
