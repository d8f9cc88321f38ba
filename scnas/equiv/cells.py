"""Two neurons, the same inputs: do they agree for ever? Miter, proof script, and the answer of SymbiYosys.

A miter feeds both modules inputs that are free in every clock, asserts that spike and membrane are equal,
and covers a spike, so that two dead neurons do not pass as equal ones. Both modules have the ports of the
contract: clk, rst_n, step, leak_k, gain_k, I_t, noise_in -> spike_out, v_out.
"""

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scnas import resources
from scnas.contract import Refused
from scnas.equiv import tools, trace
from scnas.equiv.cut import Cut
from scnas.files import write_whole
from scnas.processes import Finished

STATUSES = ("proved", "bounded", "refuted", "unknown", "not_run", "error")
INDUCTION_DEPTH = 4  # steps of k-induction; the proofs of the cells need one


@dataclass(frozen=True)
class Hidden:
    """What the ports do not show.

    wires: output of the miter -> (bits, signed, path after flattening). relations: name -> expression that
    is asserted; the name "" holds declarations. cuts: for `induction.prove`.
    """

    wires: Mapping[str, tuple[int, bool, str]] = field(default_factory=dict)
    relations: Mapping[str, str] = field(default_factory=dict)
    cuts: tuple[Cut, ...] = ()


@dataclass(frozen=True)
class EquivResult:
    """What a proof said about `module`.

    status: `proved` (for all inputs, for ever), `bounded` (no counterexample within `depth` clocks),
    `refuted` (a counterexample: `trace` is its file, `table` its clocks), `unknown` (time ran out, or
    induction and bound both failed; `depth` is the clock reached), `not_run` (files written, or a tool is
    missing and `log` says what to install), `error` (a tool broke; `log` holds its last lines).
    depth: clocks. engine: as in the proof script. files: what was written. seconds: of the tools.
    """

    module: str
    status: str
    depth: int
    engine: str
    log: str
    reference: str = ""
    seconds: float = 0.0
    files: tuple[Path, ...] = ()
    trace: Path | None = None
    table: tuple[Mapping[str, int], ...] = ()

    def __post_init__(self):
        if self.status not in STATUSES:
            raise ValueError(f"status must be one of {', '.join(STATUSES)}, got {self.status!r}")

    @property
    def passed(self) -> bool | None:
        """True only for proved and bounded, False for refuted; None where there is no verdict."""
        return {"proved": True, "bounded": True, "refuted": False}.get(self.status)

    def replay(self, simulator: str | None = None) -> tuple[dict[str, int], ...]:
        """A refuted proof's trace played in a simulator: spikes and membranes of both in each of its clocks.

        simulator: `icarus` or `verilator`; any that is there if not given. Raises ValueError if there is no
        trace, FileNotFoundError without a simulator.
        """
        if not self.table or not self.files:
            raise Refused(f"{self.module}: {self.status}, there is no trace to replay")
        top = next(path.stem for path in self.files if path.stem.endswith("_miter"))
        return trace.replay(top, self.files, self.table, self.files[0].parent, simulator)

    def summary(self) -> str:
        """The verdict in one line; for a refuted one with the clocks that lead to the difference."""
        what = f"{self.module} against {self.reference}" if self.reference else self.module
        match self.status:
            case "proved":
                return f"{what}: PROVED for all inputs, for ever ({self.engine}, {self.seconds:.1f} s)"
            case "bounded":
                return (
                    f"{what}: no difference within {self.depth} clocks ({self.engine}, {self.seconds:.1f} s)"
                )
            case "refuted":
                return f"{what}: REFUTED ({self.engine})\n{trace.table_text(self.table)}".rstrip()
            case "not_run":
                return f"{what}: NOT RUN. {self.log}"
        last = " | ".join(line for line in self.log.splitlines()[-3:] if line.strip())
        return f"{what}: {self.status.upper()} at clock {self.depth} ({self.engine}). {last}".rstrip()


def hidden_state(
    reference: str,
    parameters: Mapping[str, int],
    data_width: int = 16,
    fraction: int = 8,
    *,
    dut_parameters: Mapping[str, int] | None = None,
    noise_width: int | None = None,
    constants: Mapping[str, int] | None = None,
    folded: bool = False,
) -> Hidden:
    """How the inner states of one of our own cells and of its `reference` hang together.

    folded: the cell is sc_update_as_neuron instead of the neuron with the name of the reference. Other
    arguments as of `generate_miter`. Empty for a reference that is not known here.
    """
    p, k = dict(parameters), dict(constants or {})
    period, v_rest, one = p.get("REFRACTORY_PERIOD", 0), p.get("V_REST", 0), 2**fraction
    half = 2 ** (data_width - 1)
    word = (-half, half - 1)
    gain = (k["gain_k"],) * 2 if "gain_k" in k else word
    leak = (k["leak_k"],) * 2 if "leak_k" in k else word

    def cut(dut: str, ref: str, a: tuple[int, int], b: tuple[int, int], offset: int = 0) -> Cut:
        """A cut at mul(a, b)."""
        ends = [x * y >> fraction for x in a for y in b]
        return Cut(dut, ref, min(ends), max(ends), offset)

    wires: dict[str, tuple[int, bool, str]] = {"waiting": (32, False, "ref.waiting")}
    relations: dict[str, str] = {}
    cuts: list[Cut] = []
    if folded:
        waiting_width = dict(dut_parameters or {})["WAITING_WIDTH"]
        full = 3 * data_width + (noise_width or data_width) + 8
        wires |= {
            "left": (waiting_width, False, "dut.left"),
            "v_dut": (data_width, True, "dut.v"),
            "v_ref": (data_width, True, "ref.v_out"),
            "p_dut": (data_width, True, "dut.update.p"),
            "dut_driven": (full, True, "dut.update.driven"),
        }
        relations["rest_counters"] = "waiting == left"
        cuts.append(Cut("v_dut", "v_ref", *word))
        inner = {"sc_homeostatic_lif_reference": "a", "sc_izhikevich_reference": "u"}.get(reference)
        if inner:
            wires["extra_dut"] = (data_width, True, "dut.extra")
            wires["extra_ref"] = (data_width, True, f"ref.{inner}")
            relations["extra"] = "extra_dut == extra_ref"
            cuts.append(Cut("extra_dut", "extra_ref", *word))
        bits_ref = 128 if inner == "u" else 96
        wires["ref_drive"] = (bits_ref, True, "ref.drive")
        wires["p_ref"] = (bits_ref, True, "ref.p")
        cuts.append(cut("dut_driven", "ref_drive", word, gain))
        if inner == "u":
            b, a = p.get("B_K", 51), p.get("A_K", 5)
            for name in ("square", "target", "moved"):
                wires[f"dut_{name}"] = (full, True, f"dut.update.izhikevich.{name}")
                wires[f"ref_{name}"] = (128, True, f"ref.{name}")
            target = cut("dut_target", "ref_target", word, (b, b))
            difference = (target.low - half, target.high + half)
            moved = cut("dut_moved", "ref_moved", difference, (a, a))
            cuts += [cut("dut_square", "ref_square", word, word), target, moved]
        cuts.append(Cut("p_dut", "p_ref", *word))
        return Hidden(wires, relations, tuple(cuts))
    match reference:
        case "sc_lif_reference" | "sc_homeostatic_lif_reference":
            if period or v_rest >= p.get("V_THRESHOLD", 256):
                counter_bits = max(1, (period - 1).bit_length()) if period > 1 else 1
                wires |= {
                    "left": (counter_bits, False, "dut.rests.left"),
                    "rest": (1, False, "dut.rests.rest"),
                }
                relations |= {
                    "rest_counters": f"waiting == (spike_out ? {period} : left)",
                    "rest_flag": "rest || left == 0",
                }
            else:
                relations["never_rests"] = "waiting == 0"
            sum_width = dict(dut_parameters or {}).get("SUM_WIDTH")
            sum_width = sum_width or 2 * data_width + (noise_width or data_width) + 4
            wires |= {
                "dut_driven": (sum_width + data_width + fraction + 2, True, "dut.driven"),
                "ref_drive": (96, True, "ref.drive"),
                "dut_kept": (sum_width, True, "dut.kept"),
                "ref_remaining": (96, True, "ref.remaining"),
            }
            above_rest = (-half - v_rest, half - 1 - v_rest)
            cuts.append(cut("dut_driven", "ref_drive", word, gain))
            cuts.append(
                cut("dut_kept", "ref_remaining", above_rest, (one - leak[1], one - leak[0]), offset=v_rest)
            )
            if reference == "sc_homeostatic_lif_reference":
                decay, bump = p.get("DECAY_K", 16), p.get("BUMP_K", 64)
                wires |= {
                    "a_before": (data_width, True, "dut.a"),
                    "a_after": (data_width, True, "ref.a"),
                }
                top, bottom = _literal(half - 1, 96), _literal(-half, 96)
                relations |= {
                    "": "wire signed [95:0] a_wide = a_before;\n"
                    "    wire signed [95:0] raised = "
                    f"a_wide - ((a_wide * {_literal(decay, 96)}) >>> {fraction})"
                    f" + (spike_out ? {_literal(bump, 96)} : 96'sd0);",
                    "adaptation": f"a_after == (raised > {top} ? {top} : "
                    f"raised < {bottom} ? {bottom} : raised)",
                }
        case "sc_izhikevich_reference":
            full = 3 * data_width + (noise_width or data_width) + 8
            b, a = p.get("B_K", 51), p.get("A_K", 5)
            wires |= {"u_dut": (data_width, True, "dut.u"), "u_ref": (data_width, True, "ref.u")}
            wires |= {"v_dut": (data_width, True, "dut.v"), "v_ref": (data_width, True, "ref.v_out")}
            wires |= {"p_dut": (data_width, True, "dut.p"), "p_ref": (128, True, "ref.p")}
            for name in ("square", "driven", "target", "moved"):
                wires[f"dut_{name}"] = (full, True, f"dut.{name}")
                wires[f"ref_{name}"] = (128, True, "ref.drive" if name == "driven" else f"ref.{name}")
            target = cut("dut_target", "ref_target", word, (b, b))
            difference = (target.low - half, target.high + half)
            cuts += [
                Cut("v_dut", "v_ref", *word),
                Cut("u_dut", "u_ref", *word),
                cut("dut_square", "ref_square", word, word),
                cut("dut_driven", "ref_driven", word, gain),
                target,
                cut("dut_moved", "ref_moved", difference, (a, a)),
                Cut("p_dut", "p_ref", *word),
            ]
            relations["recovery"] = "u_dut == u_ref"
            if period:
                wires["left"] = (period.bit_length(), False, "dut.rests.left")
                relations["rest_counters"] = "waiting == left"
            else:
                relations["never_rests"] = "waiting == 0"
        case _:
            return Hidden()
    return Hidden(wires, relations, tuple(cuts))


def _literal(value: int, bits: int) -> str:
    """A signed Verilog constant."""
    return f"-{bits}'sd{-value}" if value < 0 else f"{bits}'sd{value}"


def generate_miter(
    dut_module: str,
    ref_module: str,
    top_name: str,
    data_width: int = 16,
    fraction: int = 8,
    *,
    parameters: Mapping[str, int] | None = None,
    dut_parameters: Mapping[str, int] | None = None,
    noise_width: int | None = None,
    constants: Mapping[str, int] | None = None,
    noise_range: tuple[int, int] | None = None,
    hidden: Hidden | None = None,
) -> str:
    """Verilog of the miter of two neuron modules.

    parameters: of both modules besides DATA_WIDTH and FRACTION (V_REST, V_THRESHOLD, ...). dut_parameters:
    of the first alone. noise_width: bits of noise_in, data_width unless given. constants: input name
    (leak_k, gain_k, I_t, noise_in, step) -> value it is tied to; every other input is free in every clock.
    noise_range: least and greatest noise_in that occur; any word if not given. hidden: what relates the inner
    states. Raises ValueError for a name that is not an identifier.
    """
    for name in (dut_module, ref_module, top_name):
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise Refused(f"a module name must be an identifier, got {name!r}")
    hidden = hidden or Hidden()
    noise_width = noise_width or data_width
    inputs = {
        "step": 1,
        "leak_k": data_width,
        "gain_k": data_width,
        "I_t": data_width,
        "noise_in": noise_width,
    }
    unknown = set(constants or {}) - set(inputs)
    if unknown:
        raise Refused(f"constants may hold {', '.join(inputs)}; got {', '.join(sorted(unknown))}")
    ports, tied = [], []
    for name, bits in inputs.items():
        kind = "" if name == "step" else f"signed [{bits - 1}:0] "
        if name in (constants or {}):
            literal = f"{bits}'h{constants[name] % 2**bits:x}"
            tied.append(f"    wire {kind}{name} = {literal};")
        else:
            ports.append(f"    input wire {kind}{name}")
    common = {"DATA_WIDTH": data_width, "FRACTION": fraction, **(parameters or {})}
    if noise_width != data_width:
        common["NOISE_WIDTH"] = noise_width

    def instance(module: str, name: str, settings: Mapping[str, int]) -> str:
        values = ", ".join(f".{key}({value})" for key, value in settings.items())
        plugs = ", ".join(f".{port}({port})" for port in ("clk", "rst_n", *inputs))
        return f"    {module} #({values}) {name} ({plugs}, .spike_out({name}_spike), .v_out({name}_v));"

    wires = [
        f"    output wire {'signed ' if signed else ''}[{bits - 1}:0] {name},  // {path}"
        for name, (bits, signed, path) in hidden.wires.items()
    ]
    helpers = [f"    {hidden.relations['']}"] if "" in hidden.relations else []
    asserts = [
        f"        {name}: assert ({expression});" for name, expression in hidden.relations.items() if name
    ]
    noise = []
    if noise_range is not None:
        low, high = (_literal(end, noise_width + 1) for end in noise_range)
        noise = [f"        assume (noise_in >= {low} && noise_in <= {high});"]
    return "\n".join(
        [
            f"// {dut_module} and {ref_module} get the same inputs, free in every clock unless tied below.",
            "// A trace begins with a reset; later ones may come at any time.",
            f"module {top_name} (",
            "    input wire clk,",
            "    input wire rst_n,",
            *(f"{port}," for port in ports),
            *wires,
            "    output wire spike_out,",
            f"    output wire signed [{data_width - 1}:0] v_out",
            ");",
            *tied,
            "    wire dut_spike, ref_spike;",
            f"    wire signed [{data_width - 1}:0] dut_v, ref_v;",
            instance(dut_module, "dut", common | dict(dut_parameters or {})),
            instance(ref_module, "ref", common),
            "    assign spike_out = dut_spike;",
            "    assign v_out = dut_v;",
            *helpers,
            "`ifdef FORMAL",
            "    always @* begin",
            "        if ($initstate) assume (!rst_n);",
            *noise,
            "        spikes_equal: assert (dut_spike == ref_spike);",
            "        membranes_equal: assert (dut_v == ref_v);",
            *asserts,
            "        fires: cover (dut_spike && ref_spike);  // a dead neuron would equal any other",
            "    end",
            "`endif",
            "endmodule",
            "",
        ]
    )


def miter_script(top_name: str, files: Sequence[str], hidden: Hidden) -> list[str]:
    """Yosys commands that read a miter and tie the wires of `hidden` to the states they mean."""
    lines = [f"read_verilog -sv -formal {name}" for name in files]
    lines += [f"hierarchy -check -top {top_name}", "proc", "flatten"]
    lines += [f"connect -nounset -set {name} {path}" for name, (_, _, path) in hidden.wires.items()]
    return lines + [f"prep -top {top_name}"]


def generate_sby(
    top_name: str,
    verilog_files: Sequence[str | Path],
    depth: int = 30,
    engine: str = "smtbmc bitwuzla",
    mode: str = "prove",
    *,
    timeout_s: int | None = None,
    hidden: Hidden | None = None,
) -> str:
    """A SymbiYosys script for the miter `top_name`.

    mode: `prove` (unbounded, k-induction with up to `depth` steps), `bmc` (the first `depth` clocks) or
    `cover` (reach every cover within `depth`). verilog_files: names as seen from the folder of the script.
    Raises ValueError for another mode or a depth below 1.
    """
    if mode not in ("prove", "bmc", "cover"):
        raise Refused(f"mode must be prove, bmc or cover, got {mode!r}")
    if depth < 1:
        raise Refused(f"depth must be at least 1, got {depth}")
    names = [str(name) for name in verilog_files]
    options = [f"mode {mode}", f"depth {depth}"] + ([f"timeout {timeout_s}"] if timeout_s else [])
    # abc writes its counterexample through a solver; the default, yices, is not on PyPI.
    options += ["aigsmt bitwuzla"] if engine.startswith(("abc", "aiger")) else []
    script = miter_script(top_name, [Path(name).name for name in names], hidden or Hidden())
    parts = {"options": options, "engines": [engine], "script": script, "files": names}
    return "\n\n".join(f"[{name}]\n" + "\n".join(lines) for name, lines in parts.items()) + "\n"


def check_equivalence(
    dut_verilog: str | Path = "sc_lif_neuron",
    ref_verilog: str | Path = "sc_lif_reference",
    depth: int = 30,
    run: bool = False,
    *,
    data_width: int = 16,
    fraction: int = 8,
    parameters: Mapping[str, int] | None = None,
    dut_parameters: Mapping[str, int] | None = None,
    noise_width: int | None = None,
    constants: Mapping[str, int] | None = None,
    engine: str = "smtbmc bitwuzla",
    mode: str = "prove",
    timeout_s: float = 120.0,
    folder: str | Path | None = None,
) -> EquivResult:
    """Do two neuron modules agree for all inputs?

    dut_verilog, ref_verilog: a cell of hdl/ or hdl/equiv/ by name, or a Verilog file whose module has the
    file's name. depth: clocks of the bound. run: False writes the proof files and says `not_run`.
    mode: `prove` tries induction first and, if that does not decide, the bound; `bmc` only the bound.
    constants: values of leak_k, gain_k, ... as in `generate_miter`; the others are free in every clock.
    timeout_s: for all tools together. folder: where the files go; a temporary one that stays if not given.
    Raises ValueError for a mode or name that cannot be; a file that is missing gives the status `error`.
    """
    if mode not in ("prove", "bmc"):
        raise Refused(f"mode must be prove or bmc, got {mode!r}")
    folder = Path(tempfile.mkdtemp(prefix="scnas-equiv-") if folder is None else folder)
    folder.mkdir(parents=True, exist_ok=True)
    dut, ref = Path(dut_verilog).stem, Path(ref_verilog).stem
    base = {"module": dut, "reference": ref, "engine": engine}
    sources = []
    for given in (dut_verilog, ref_verilog):
        path = find_source(given)
        if path is None:
            return EquivResult(**base, status="error", depth=0, log=f"{given}: no such file or cell")
        sources.append(Path(shutil.copy(path, folder / path.name)))
    top = f"{dut}_miter"
    settings = {
        "parameters": parameters,
        "dut_parameters": dut_parameters,
        "noise_width": noise_width,
        "constants": constants,
    }
    hidden = Hidden()
    if ref.startswith("sc_") and dut == ref.replace("_reference", "_neuron"):
        hidden = hidden_state(
            ref, **settings | {"parameters": parameters or {}}, data_width=data_width, fraction=fraction
        )
    miter = generate_miter(dut, ref, top, data_width, fraction, **settings, hidden=hidden)
    write_whole(folder / f"{top}.v", miter)
    names = [path.name for path in sources] + [f"{top}.v"]
    scripts = {}
    for kind in ("prove", "bmc", "cover"):
        steps = min(depth, INDUCTION_DEPTH) if kind == "prove" else depth
        scripts[kind] = folder / f"{top}_{kind}.sby"
        write_whole(scripts[kind], generate_sby(top, names, steps, engine, kind, hidden=hidden))
    files = (*sources, folder / f"{top}.v", *scripts.values())
    base |= {"files": files}
    if not run:
        log = f"proof files are in {folder}; run=True, or sby {scripts['prove'].name} there, runs them"
        return EquivResult(**base, status="not_run", depth=0, log=log)
    if missing := tools.missing_tools():
        return EquivResult(**base, status="not_run", depth=0, log=missing)
    return _decide(base, folder, top, scripts, depth, mode, timeout_s)


def _decide(
    base: dict, folder: Path, top: str, scripts: Mapping[str, Path], depth: int, mode: str, timeout_s: float
) -> EquivResult:
    """Run the scripts one after another until one of them decides."""
    left, log = timeout_s, ""
    found = "unknown"
    reached = 0
    for kind in ("prove", "bmc") if mode == "prove" else ("bmc",):
        finished = tools.sby(scripts[kind].name, folder, left, kind)
        left -= finished.seconds
        log += finished.output
        found = verdict(finished)
        reached = max([reached, *map(int, re.findall(r"Checking assertions in step (\d+)", finished.output))])
        if found == "refuted":
            file = folder / kind / _trace_name(finished.output)
            table = trace.read_vcd(file, top) if file.is_file() else ()
            if not table:
                found, log = "error", log + "\nrefuted, but the trace cannot be read"
            if found == "refuted" and not any(_differs(row) for row in table):
                found, log = (
                    "unknown",
                    log + "\nonly what is known of the inside is wrong: the ports are equal",
                )
            used = {"trace": file, "table": table, "depth": len(table) - 1}
            return EquivResult(**base, status=found, log=log, seconds=timeout_s - left, **used)
        if found == "error":
            break
        if found == "passed":
            covered = tools.sby(scripts["cover"].name, folder, left, "cover")
            left -= covered.seconds
            log += covered.output
            fires = verdict(covered)
            # An unreached cover is no counterexample: equal, but neither was seen to fire.
            found = {"passed": "proved" if kind == "prove" else "bounded", "error": "error"}.get(
                fires, "unknown"
            )
            if found == "unknown":
                log += f"\nequal, but no spike was reached within {depth} clocks"
            break
    clock = {"proved": 0, "bounded": depth}.get(found, reached)
    return EquivResult(**base, status=found, depth=clock, log=log, seconds=timeout_s - left)


def _differs(row: Mapping[str, int]) -> bool:
    return row["dut_spike"] != row["ref_spike"] or row["dut_v"] != row["ref_v"]


def verdict(finished: Finished) -> str:
    """`passed`, `refuted`, `unknown` or `error`, from how SymbiYosys ended: two of its codes decide.

    The line DONE must say the same: a tool that stops with 0 or 2 for another reason has decided nothing.
    """
    done = re.findall(r"DONE \((\w+), rc=(\d+)\)", finished.output)
    if finished.code is None:
        return "unknown"
    match (finished.code, done[-1][0] if done else ""):
        case (0, "PASS"):
            return "passed"
        case (2, "FAIL"):
            return "refuted"
        case (4, "UNKNOWN") | (8, "TIMEOUT"):
            return "unknown"
    return "error"


def _trace_name(output: str) -> str:
    found = re.findall(r"counterexample trace: \S*?/(engine_\d+/\S+\.vcd)", output)
    return found[0] if found else "engine_0/trace.vcd"


def find_source(name: str | Path) -> Path | None:
    """The file of a cell in hdl/ or hdl/equiv/, or `name` itself if it is a file."""
    hdl = resources.hdl()
    for path in (Path(name), hdl / f"{name}.v", hdl / "equiv" / f"{name}.v"):
        if path.suffix == ".v" and path.is_file():
            return path
    return None
