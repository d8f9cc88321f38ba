"""The kernels of scnas.snn.gpu compile for a GPU that is not here; the interpreter takes more than that."""

import os
import re
import subprocess
import sys
from pathlib import Path

import interpreter  # noqa: F401 - skips where triton is not installed

from scnas import snn
from scnas.contract import NEURONS

# Of these every number has to be what the reference has; a quotient of float32 is not rounded to the nearest.
EXACT = ("_forward", "_layer", "_streams", "_matrices", "_learned")


def test_every_kernel_compiles():
    """For compute capability 9.0, that of an H100 or H200: no register is spilled, and the shared memory of
    227 KiB is enough for three programs or more."""
    plain = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    script = Path(__file__).parents[1] / "helpers" / "compile_kernels.py"
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, env=plain)
    assert run.returncode == 0, run.stderr[-2000:]
    built = [line.split() for line in run.stdout.splitlines()]
    assert len(built) == len(NEURONS) * 8 + 19
    for name, registers, spilled, shared, multiplied, divided in built:
        assert int(spilled) == 0 and int(shared) <= 227 * 1024 // 3, (name, registers, spilled, shared)
        assert (multiplied == "True") == (name == "_layer")
        assert divided == "False" or name not in EXACT, name


def test_candidates_are_counted_in_64_bits():
    """A candidate times what each has exceeds 32 bits soon enough; no machine here has room to see it."""
    found = []
    for path in sorted(Path(snn.__file__).with_name("gpu").glob("*.py")):
        found += re.findall(r"^    [pqb] = (tl\.program_id\(\d\).*)$", path.read_text(), re.MULTILINE)
    assert len(found) >= 10 and all(".to(tl.int64)" in line for line in found), found
