"""Compiles every kernel of scnas.snn.gpu for compute capability 9.0, without a GPU; a line of figures each.

Run by test_gpu_compiled.py in a process without TRITON_INTERPRET. A line: name, registers, bytes spilled,
shared memory, whether tensor cores multiply bfloat16, whether anything of float32 or float64 is divided.
"""

import math
import re
import subprocess
import tempfile

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from scnas.contract import NEURONS
from scnas.snn.fusion import ROWS, columns_of, tile
from scnas.snn.gpu import adam, constants, layers, loss, synapses

# A stride that needs 64 bits; those that need 32 are the rest. Numbers of float32.
SCALARS = dict.fromkeys(("per_candidate", "everything", "pull_candidate"), "i64") | dict.fromkeys(
    ("unit", "c14", "steep", "height", "one", "clip", "less", "fast", "tiny"), "fp32"
)


def build(kernel, pointers: dict[str, str], num_warps: int = 4, **fixed) -> None:
    fixed |= {name: 1 for name in ("per_sample", "pull_sample") if name in kernel.arg_names}
    names = kernel.arg_names
    kinds = {n: "constexpr" if n in fixed else pointers.get(n, SCALARS.get(n, "i32")) for n in names}
    places = {(names.index(n),): v for n, v in fixed.items()}
    whole = {(names.index(n),): [["tt.divisibility", 16]] for n in names if kinds[n][0] == "*"}
    source = ASTSource(fn=kernel, signature=kinds, constexprs=places, attrs=whole)
    options = dict(num_warps=num_warps, num_stages=2 if kernel is layers._layer else 3)
    built = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(built.asm["cubin"])
        file.flush()
        tool = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        said = subprocess.run(tool, capture_output=True, text=True, check=True).stdout
    registers, spilled = re.search(r"REG:(\d+) STACK:(\d+)", said).groups()
    multiplied = "mma.sync" in built.asm["ptx"] and "bf16.bf16" in built.asm["ptx"]
    divided = bool(re.search(r"(div|rcp)\.\w+\.f(32|64)", built.asm["ptx"]))
    print(kernel.__name__, registers, spilled, built.metadata.shared, multiplied, divided)


def pointers(kind: str, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, f"*{kind}")


def main() -> None:
    own = (
        pointers("fp32", "current", "source", "spikes", "adaptations", "gradient", "to_current", "sums")
        | pointers("fp64", "threshold", "table", "noise") | pointers("i64", "members")
        | pointers("i32", "membranes") | pointers("bf16", "matrices")
    )  # fmt: skip
    for i, model in enumerate(NEURONS):
        wide = bool(i % 2) or model == "izhikevich"
        kind = layers._kinds(model)
        ahead = kind | dict(NOISY=model == "stochastic_lif", TYPE=tl.float64 if wide else tl.float32)
        build(layers._forward, own, **ahead, REFRACTORY=i % 2 == 0, LEARNS=i != 1, BLOCK=layers.BLOCK)
        build(layers._backward, own, **kind, FUSED=False, BLOCK=layers.BLOCK)
        build(layers._backward, own, **kind, FUSED=True, BLOCK=layers.BLOCK)
        for inputs, neurons, span in ((12, 70, 0), (64, 8, 0), (256, 256, 0), (64, 64, 4), (256, 64, 2)):
            rows, columns = ROWS // 2 if wide else ROWS, columns_of(inputs, neurons, span)
            build(
                layers._layer, own, layers._warps(rows, columns), **ahead, FACTOR=math.gcd(inputs, 16),
                FACTOR_OUT=math.gcd(neurons, 16), DELAYED=span > 0, INPUTS=tile(inputs), ROWS=rows,
                COLUMNS=columns, WIDENED=False, LEARNS=inputs != 64,
            )  # fmt: skip
    sums = pointers("fp32", "sums") | pointers(
        "fp64", "gain_k", "drives", "to_threshold", "to_gain", "to_leak"
    )
    for driven in (False, True):
        build(layers._reduce, sums, DRIVEN=driven, WIDTH=12, ROWS=32, COLUMNS=64)
    build(synapses._streams, pointers("fp32", "integers", "tables") | pointers("bf16", "out"), BLOCK=256)
    given = pointers("fp32", "weights", "magnitudes", "units", "positions", "found", "limits", "widths")
    given |= pointers("fp32", "to_weights", "to_positions") | pointers("fp64", "drives")
    for kind, delayed in (("bf16", True), ("fp32", False)):
        every = given | pointers("i8", "keep") | pointers(kind, "out", "matrices")
        build(synapses._matrices, every, DELAYED=delayed, BLOCK=256)
        build(synapses._collect, every, DELAYED=delayed, DRIVES=delayed, BLOCK=256)
    known = pointers("fp32", "threshold", "gain", "leak", "to_threshold", "to_gain", "to_leak")
    known |= pointers("fp64", "base", "bound", "integers", "gain_k", "leak_k") | pointers("i8", "real")
    known |= pointers("fp64", "to_integers", "to_gain_k", "to_leak_k")
    build(constants._learned, known, BLOCK=constants.BLOCK)
    build(constants._back, known, BLOCK=constants.BLOCK)
    for kind in ("fp32", "fp64"):
        scored = pointers(kind, "scores", "losses", "slopes", "to_scale")
        scored |= pointers("fp32", "scale") | pointers("i64", "labels")
        for classes in (10, 20, 256, loss.MOST_CLASSES):
            build(loss._losses, scored, **loss.tile(classes))
    flat = pointers("fp32", "gradient", "ends", "squares", "norms", "value", "first", "second")
    flat |= pointers("fp32", "pace", "root") | pointers("i64", "places", "firsts") | pointers("i8", "keep")
    build(adam._squares, flat, BLOCK=adam.BLOCK)
    build(adam._move, flat, BLOCK=adam.BLOCK)


if __name__ == "__main__":
    main()
