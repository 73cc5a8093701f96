"""The fork server that runs inside a slot, as a folder that needs nothing but Python.

Reading order: `zygote.py` (started by `slot.py`, forks and buries cells), `locks.py` and
`kernel.py` (the locks), `cell.py` (what a forked cell does: serve a program or run tests),
`codec.py` (the plain data that may pass; the judge imports this one too).

What it does not do: the zygote never reads a byte of a program, a test or an expected value, so a
fork of it has nothing to steal; the candidate's cell sees the arguments of its calls and never an
expected value; nothing here compares answers, nothing is ever unpickled, and what a cell said is
only read as JSON.
"""
