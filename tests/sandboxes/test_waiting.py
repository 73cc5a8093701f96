"""How long a sample waited for a processor, children included: the ground for judging it again."""

import math
import os
import subprocess
import sys

from sdb_sandboxes.watch import read_own_waiting_s, read_tree, read_waiting_s


def test_children_wait_for_their_parent_too() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with child:
        assert {os.getpid(), child.pid} <= set(read_tree(os.getpid()))
        own = read_own_waiting_s(os.getpid()) + read_own_waiting_s(child.pid)
        assert own <= read_waiting_s([os.getpid()]) < math.inf
        child.communicate(b"\n")


def test_what_the_kernel_hides_counts_as_waiting() -> None:
    assert read_waiting_s([(1 << 22) + 1]) == math.inf
    assert read_waiting_s([]) == 0.0
