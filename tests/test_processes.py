"""Whatever way a tool ends, nothing that it started goes on."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from scnas import processes

# Starts a grandchild, says its number in the file `pid`, then does what the test asks for.
TOOL = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
with open("part", "w") as file:
    file.write(str(child.pid))
os.replace("part", "pid")
"""
ROOT = Path(processes.__file__).resolve().parent.parent


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def grandchild(folder: Path) -> int:
    """The number of the grandchild, as soon as it is there."""
    deadline = time.monotonic() + 30
    while not (folder / "pid").exists():
        assert time.monotonic() < deadline, "the tool never started its child"
        time.sleep(0.02)
    return int((folder / "pid").read_text())


def gone(pid: int) -> bool:
    """Is it gone, within the moment that init needs to reap an orphan?"""
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


@pytest.mark.parametrize("ending, code", [("", 0), ("sys.exit(3)", 3), ("os.kill(os.getpid(), 11)", -11)])
def test_a_tool_that_ends_leaves_no_grandchild(ending, code, tmp_path):
    done = processes.run([sys.executable, "-c", TOOL + ending], tmp_path, 60)
    assert done.code == code
    assert gone(grandchild(tmp_path))


def test_a_tool_whose_time_runs_out_leaves_no_grandchild(tmp_path):
    done = processes.run([sys.executable, "-c", TOOL + "time.sleep(120)"], tmp_path, 2)
    assert done.code is None and 2 <= done.seconds < 20
    assert gone(grandchild(tmp_path))


def test_a_tool_that_is_told_to_stop_leaves_no_grandchild(tmp_path):
    stop, found = threading.Event(), []
    command = [sys.executable, "-c", TOOL + "time.sleep(120)"]
    thread = threading.Thread(target=lambda: found.append(processes.run(command, tmp_path, 120, stop=stop)))
    thread.start()
    pid = grandchild(tmp_path)
    assert alive(pid)
    stop.set()
    thread.join(20)
    assert found[0].code is None and gone(pid)


def test_an_interrupt_leaves_no_grandchild(tmp_path):
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "from scnas import processes\n"
        f"processes.run([sys.executable, '-c', {TOOL + 'time.sleep(120)'!r}], Path(), 120)\n"
    )
    ours = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    pid = grandchild(tmp_path)
    assert alive(pid)
    ours.send_signal(signal.SIGINT)
    _, errors = ours.communicate(timeout=20)
    assert "KeyboardInterrupt" in errors and gone(pid)


def test_what_is_printed_comes_back(tmp_path):
    code = "import os, sys; print(os.environ['WORD'], os.getcwd()); print('oh\\n\\n', file=sys.stderr)"
    done = processes.run([sys.executable, "-c", code], tmp_path, 60, {"WORD": "here"})
    assert (done.stdout, done.stderr) == (f"here {tmp_path}\n", "oh\n\n\n")
    assert done.last(2) == [f"here {tmp_path}", "oh"]
    assert list(tmp_path.iterdir()) == []


def test_a_tool_that_is_not_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no-such-tool"):
        processes.run(["no-such-tool"], tmp_path, 60)


def test_a_command_is_ended_by_what_it_says(tmp_path):
    said = bytearray()

    def enough(more: bytes) -> bool:
        said.extend(more)
        return b"round 3" in said

    rounds = "import sys, time\nfor i in range(600): print('round', i, file=sys.stderr); time.sleep(.1)"
    done = processes.run([sys.executable, "-c", rounds], tmp_path, 60, watch=enough)
    assert done.code is None and done.stderr.startswith("round 0\nround 1\n")
    assert said.startswith(b"round 0\n") and done.stderr.encode().startswith(bytes(said))
    done = processes.run([sys.executable, "-c", "print('short')"], tmp_path, 60, watch=enough)
    assert (done.code, done.stdout) == (0, "short\n")
