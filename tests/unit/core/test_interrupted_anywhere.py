"""Ctrl-C at each step of the function that runs a command ends the process with 130 and one word, no traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

TRIAL = """
import os, signal, sys
from diptych.runtime import interrupts

def command():
    return 1

def step(number):
    # the number-th bytecode of `run` and of the command is interrupted
    done = 0
    def trace(frame, event, argument):
        nonlocal done
        if frame.f_code not in (interrupts.run.__code__, command.__code__):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            done += 1
            if done == number:
                print(f"at {number}", flush=True)
                signal.raise_signal(signal.SIGINT)
        return trace
    sys.settrace(trace)
    interrupts.run(command)
    sys.settrace(None)
    os._exit(0)

reached = True
number = 0
while reached:
    number += 1
    out, into = os.pipe()
    if not (child := os.fork()):
        os.dup2(into, 1), os.dup2(into, 2)
        interrupts.install()
        try:
            step(number)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    os.close(into)
    said = os.fdopen(out).read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    reached = f"at {number}" in said
    assert code == (130 if reached else 0), (number, code, said)
    assert said.split() == (["at", str(number), "interrupted"] if reached else []), (number, said)
print(number - 1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_wherever_ctrl_c_comes_the_process_ends_with_one_word() -> None:
    done = subprocess.run([sys.executable, "-c", TRIAL], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20, "few steps were interrupted: the trace sees the function no more"
