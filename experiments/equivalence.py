"""What is proved, how long it takes, and what the proofs catch. Writes equivalence.csv beside this file.

    python experiments/equivalence.py cells      every cell at 8, 12, 16, 24 bits, constants fixed and symbolic
    python experiments/equivalence.py mutants    one fault each in cells and netlists of cells
    python experiments/equivalence.py generated  one fault each in generated layers and top
    python experiments/equivalence.py trees      the count of one neuron, by fan-in
    python experiments/equivalence.py designs    whole designs: winners of short searches, and random networks

Rows of the part that is run replace the old ones of that part.
"""

import csv
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

from networks import random_layer

from scnas import resources
from scnas.equiv import counts, generators, induction, machine, neuron, tools
from scnas.equiv import verdict as verdicts
from scnas.equiv.composition.inference import composition
from scnas.equiv.hidden import hidden_state
from scnas.equiv.miter import Hidden, generate_miter, miter_script
from scnas.equiv.tasks import tasks_of
from scnas.hardware.circuit.top import write_design
from scnas.snn.network import Network

TABLE = Path(__file__).with_suffix(".csv")
FIELDS = ("part", "name", "configuration", "status", "engine", "seconds", "detail")
HDL = resources.hdl()


def record(part: str, rows: list[dict]) -> None:
    """Put the rows of one part into the table."""
    kept = []
    if TABLE.exists():
        with TABLE.open(newline="") as file:
            kept = [row for row in csv.DictReader(file) if row["part"] != part]
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*kept, *({"part": part} | row for row in rows)])


def run(function, task: dict, seconds: float) -> tuple[str, str, float]:
    """Status, detail and seconds of an obligation, worked on in this process."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            status, detail = function(task, Path(folder), start + seconds)
        except TimeoutError:
            status, detail = "unknown", "time ran out"
        except machine.NotUnderstood as error:
            status, detail = "error", str(error)
    return status, detail, round(time.monotonic() - start, 2)


# --- cells -------------------------------------------------------------------------------------------------

WORDS = {8: 4, 12: 6, 16: 8, 24: 12}  # width -> fraction


def neuron_task(
    model: str, width: int, *, folded=False, period=2, fixed=True, noise=False, text=None
) -> dict:
    """The obligation of a neuron cell; constants are no powers of two. text: of the cell, if not ours."""
    fraction, one = WORDS[width], 2 ** WORDS[width]
    cell = f"sc_{model}_neuron"
    parameters = {"V_REST": -one // 16, "V_RESET": -one // 2, "V_THRESHOLD": one, "REFRACTORY_PERIOD": period}
    if model == "homeostatic_lif":
        parameters |= {"DECAY_K": one // 16 + 1, "BUMP_K": one // 4 + 1}
    if model == "izhikevich":
        parameters |= {"A_K": max(1, one // 50), "B_K": one // 5, "D_K": one // 12}
        parameters |= {
            "V_REST": -65 * one // 100,
            "V_RESET": -65 * one // 100,
            "V_THRESHOLD": 30 * one // 100,
        }
    constants = {"leak_k": one // 8 + 1, "gain_k": 3 * one // 4 + 1} if fixed else {}
    if not noise:
        constants["noise_in"] = 0
    if model == "izhikevich":
        constants["leak_k"] = 0  # not used
    reference = f"sc_{model}_reference"
    files = {f"{reference}.v": (HDL / "equiv" / f"{reference}.v").read_text()}
    own = dict(parameters)
    if folded:
        dut = "sc_update_as_neuron"
        start = parameters["V_RESET"] if model == "izhikevich" else parameters["V_REST"]
        own |= {"MODEL": ("lif", "homeostatic_lif", "izhikevich").index(model), "V_START": start}
        own |= {"WAITING_WIDTH": max(1, period.bit_length()), "EXTRA_START": 0}
        if model == "izhikevich":
            own["EXTRA_START"] = parameters["B_K"] * parameters["V_RESET"] >> fraction
        files |= {f"{dut}.v": (HDL / "equiv" / f"{dut}.v").read_text()}
        files |= {"sc_neuron_update.v": text or (HDL / "sc_neuron_update.v").read_text()}
    else:
        dut = cell
        files |= {f"{cell}.v": text or (HDL / f"{cell}.v").read_text()}
    return {
        "dut": dut, "ref": reference, "data_width": width, "fraction": fraction, "parameters": parameters,
        "dut_parameters": own, "noise_width": width, "constants": constants, "sources": files,
    }  # fmt: skip


def cells() -> None:
    rows = []

    def one(name: str, configuration: str, task: dict, seconds: float = 300) -> None:
        status, detail, took = run(neuron.neuron, task, seconds)
        rows.append(
            {"name": name, "configuration": configuration, "status": status,
             "engine": "bitwuzla, k-induction", "seconds": took, "detail": detail}
        )  # fmt: skip
        print(rows[-1], flush=True)
        record("cells", rows)

    for folded in (False, True):
        for model in ("lif", "homeostatic_lif", "izhikevich"):
            name = f"sc_neuron_update, {model}" if folded else f"sc_{model}_neuron"
            for width in WORDS:
                one(name, f"W={width}, constants fixed", neuron_task(model, width, folded=folded))
    one("sc_lif_neuron", "W=16, any noise", neuron_task("lif", 16, noise=True))
    one("sc_lif_neuron", "W=16, no refractory period", neuron_task("lif", 16, period=0))
    for width in (8, 12, 16):
        for model in ("lif", "homeostatic_lif", "izhikevich"):
            task = neuron_task(model, width, fixed=False)
            one(f"sc_{model}_neuron", f"W={width}, leak_k and gain_k symbolic", task, 200)


# --- the count of one neuron -------------------------------------------------------------------------------


def trees() -> None:
    rows = []
    for fan_in in (16, 32, 64, 128, 256):
        for generator in ("sobol", "lfsr"):
            rng = np.random.default_rng(fan_in)
            layer = random_layer(
                rng, fan_in, 1, neuron="lif", generator=generator, length=16, max_delay=0, density=1
            )
            network = Network(fan_in, 8, "rate", 8, 16, "spikes", (layer,))
            tasks = tasks_of(network, write_design(network).sources)
            (task,) = [task for task in tasks.values() if task["kind"] == "counts"]
            status, detail, took = run(counts.counts, task, 400)
            rows.append(
                {"name": f"{fan_in} synapses", "configuration": f"{generator}, L=16, dense", "status": status,
                 "engine": "bitwuzla, synapse by synapse", "seconds": took, "detail": detail}
            )  # fmt: skip
            print(rows[-1], flush=True)
            record("trees", rows)


# --- mutants -----------------------------------------------------------------------------------------------

# One plausible mistake each: file, text, what it becomes. The text occurs once.
# ruff: noqa: E501 (a table of texts)
BY_HAND = [
    ("sc_lif_neuron", "localparam signed [SUM_WIDTH-1:0] THRESHOLD = V_THRESHOLD - V_REST;",
     "localparam signed [SUM_WIDTH-1:0] THRESHOLD = V_THRESHOLD - V_REST + 1;"),
    ("sc_lif_neuron", "fired ? RESET : MINIMUM;", "fired ? MINIMUM : RESET;"),
    ("sc_lif_neuron", "resting ? {SUM_WIDTH{1'b0}} : fired ? leaked(RESET", "resting ? RESET : fired ? leaked(RESET"),
    ("sc_lif_neuron", "fired ? leaked(RESET, leak, one)", "fired ? RESET"),
    ("sc_lif_neuron", "leaked(MINIMUM, leak, one);", "MINIMUM;"),
    ("sc_lif_neuron", "(current * gain) >>> FRACTION", "(current * gain + 1) >>> FRACTION"),
    ("sc_lif_neuron", "else if (step) x <= p + noise;", "else x <= p + noise;"),
    ("sc_lif_neuron", "else if (step) x <= p + noise;", "else if (step) x <= p;"),
    ("sc_lif_neuron", "rest <= (fired && REFRACTORY_PERIOD > 0) || more;", "rest <= more;"),
    ("sc_lif_neuron", "REFRACTORY_PERIOD > 0 ? REFRACTORY_PERIOD - 1 : 0;", "REFRACTORY_PERIOD;"),
    ("sc_lif_neuron", "left = (wide <<< FRACTION) - wide * k;", "left = (wide <<< FRACTION) - ((wide * k) & ~1);"),
    ("sc_lif_neuron", "ORIGIN = V_REST;", "ORIGIN = 0;"),
    ("sc_homeostatic_lif_neuron", "fired = ~resting & clamped >= limit", "fired = ~resting & clamped > limit"),
    ("sc_homeostatic_lif_neuron", "a_wide - a_decay + (fired", "a_wide + a_decay + (fired"),
    ("sc_homeostatic_lif_neuron", "(fired ? BUMP : {PRODUCT{1'b0}})", "BUMP"),
    ("sc_homeostatic_lif_neuron", "{(DATA_WIDTH - 1){~raised[PRODUCT-1]}}", "{(DATA_WIDTH - 1){raised[PRODUCT-1]}}"),
    ("sc_homeostatic_lif_neuron", "if (!rst_n) a <= {DATA_WIDTH{1'b0}};", "if (!rst_n) a <= {1'b0, {(DATA_WIDTH - 1){1'b1}}};"),
    ("sc_homeostatic_lif_neuron", "too_high ? MAXIMUM : x;", "x;"),
    ("sc_izhikevich_neuron", "(7 * (1 << FRACTION) + 2) / 5", "(7 * (1 << FRACTION)) / 5"),
    ("sc_izhikevich_neuron", "(square <<< 2) + six", "(square <<< 1) + six"),
    ("sc_izhikevich_neuron", "wide(u) + moved", "wide(u) - moved"),
    ("sc_izhikevich_neuron", "(fires ? D : {FULL{1'b0}})", "(spike_out ? D : {FULL{1'b0}})"),
    ("sc_izhikevich_neuron", "u <= U_START[DATA_WIDTH-1:0];", "u <= {DATA_WIDTH{1'b0}};"),
    ("sc_izhikevich_neuron", "waiting ? REST[DATA_WIDTH-1:0] : fires", "fires"),
    ("sc_neuron_update", "~rests & wide(p) >= limit", "wide(p) >= limit"),
    ("sc_neuron_update", "((REST - wide(v)) * wide(leak_k)) >>> FRACTION", "((wide(v) - REST) * wide(leak_k)) >>> FRACTION"),
    ("sc_neuron_update", "fires ? PERIOD[WAITING_WIDTH-1:0]", "fires ? PERIOD[WAITING_WIDTH-1:0] - 1"),
    ("sc_neuron_update", "limit = wide(threshold) + wide(extra)", "limit = wide(threshold)"),
    ("sc_lfsr", "advanced[12]", "advanced[13]"),
    ("sc_lfsr", "i < 8", "i < 7"),
    ("sc_sobol_counter", "count[BITS-1-i]", "count[i]"),
    ("sc_sobol_counter", "assign last = &count;", "assign last = ~|count;"),
    ("sc_rate_encoder", "value > {1'b0, reversed}", "value >= {1'b0, reversed}"),
    ("sc_rate_encoder", "t[STEPS_LOG2-1-i]", "t[i]"),
]  # fmt: skip

# The same in cells that are proved in the top that holds them.
IN_THE_TOP = [
    ("sc_argmax", "score > best_score", "score >= best_score"),
    ("sc_argmax", "first || score", "score"),
    ("sc_delay_line", "else if (step) past", "else past"),
    ("sc_delay_line", "wire [DEPTH:0] line = {past, spike};", "wire [DEPTH:0] line = {past, past[0]};"),
]  # fmt: skip

# What only the composition can see: mapping, text, what it becomes wherever it stands.
COMPOSED = [
    ("parallel", "running <= go | (running & ~stream_end)", "running <= go | running"),
    ("parallel", "update <= complete", "update <= stream_end"),
    ("parallel", ".go(next_0)", ".go(accept)"),
    ("parallel", ".step(go), .spike(", ".step(run), .spike("),
    ("parallel", ".step(go), .spike(", ".step(update), .spike("),
    ("parallel", "else if (accept) inputs", "else if (in_ready) inputs"),
    ("parallel", "accept = in_valid & in_ready", "accept = in_ready"),
    ("parallel", "else if (accept) step", "else if (in_ready) step"),
    ("folded", "update & step_last", "update & ~step_last"),
    ("folded", "score_state + current", "score_state - current"),
    ("folded", "ready = ~run | step_end", "ready = ~run | advance"),
    ("folded", "states[neuron] <=", "states[neuron_next] <="),
]


def small_network(seed: int, mapping: str, readout: str, neuron: str = "lif") -> Network:
    """6-5-4, delays, T = 4: everything a generated layer has, small enough to prove in seconds."""
    rng = np.random.default_rng(seed)
    settings = {"timesteps": 4, "max_delay": 2, "word": 10, "fraction": 4, "mapping": mapping}
    settings |= {"lanes": 4 if mapping == "folded" else None, "length": 4, "refractory": 1}
    layers = (
        random_layer(rng, 6, 5, neuron=neuron, generator="sobol", **settings),
        random_layer(rng, 5, 4, neuron="lif", generator="lfsr", **settings),
    )
    return Network(6, 4, "rate", 4, 10, readout, layers)


# A token of generated Verilog -> what a slip makes of it.
SLIPS = [
    (r" \+ ", " - "), (r" - ", " + "), (r" & ", " | "), (r" \| ", " & "), (r" \? (\w+) : (\w+)\b(?!')", r" ? \2 : \1"),
    (r"above_(\d+)\}", None), (r"tap\[(\d+)\]", None), (r"'d(\d+)", None), (r"~", ""), (r"<= (\w+) \?", r"<= ~\1 ?"),
    (r"'h([0-9a-f]+);", None), (r"past_(\d+)\[(\d+)\]", None), (r"sum_(\d+)\b", None), (r"count_(\d+)\b", None),
    (r" >>> ", " >> "), (r"update", "complete"), (r"stream_last", "stream_end"), (r"neuron_last", "next"),
    (r"V_THRESHOLD\((-?\d+)\)", None), (r"gain_k\(\d+'h([0-9a-f]+)\)", None), (r"V_RESET\((-?\d+)\)", None),
]  # fmt: skip


def slips(text: str, count: int, seed: int) -> list[tuple[str, str]]:
    """`count` faulty copies of generated Verilog, each with a line that says what was changed."""
    dice, made, seen = random.Random(seed), [], set()
    body = text.index("module")
    while len(made) < count:
        pattern, into = dice.choice(SLIPS)
        places = [m for m in re.finditer(pattern, text) if m.start() > body]
        if not places:
            continue
        match = dice.choice(places)
        if into is None:  # another number, another signal of the family
            start, end = match.span(match.lastindex or 0)
            digits = text[start:end]
            changed = (
                f"{int(digits, 16) ^ 1:x}"
                if "'h" in pattern
                else str(int(digits) + 1 if int(digits) < 1 else int(digits) - 1)
            )
            mutant = text[:start] + changed + text[end:]
        else:
            mutant = text[: match.start()] + match.expand(into) + text[match.end() :]
        if mutant == text or mutant in seen:
            continue
        seen.add(mutant)
        line = text.count("\n", 0, match.start())
        before, after = text.splitlines()[line].strip(), mutant.splitlines()[line].strip()
        made.append((f"line {line + 1}: {before[:90]} -> {after[:90]}", mutant))
    return made


def noted(
    part: str, rows: list[dict], name: str, what: str, status: str, seconds: float, detail: str
) -> None:
    rows.append(
        {"name": name, "configuration": what[:180], "status": status, "engine": "bitwuzla",
         "seconds": seconds, "detail": detail[:200]}
    )  # fmt: skip
    print(rows[-1], flush=True)
    record(part, rows)


def with_fault(cell: str, before: str, after: str) -> str:
    """The text of a cell with one fault."""
    text = (HDL / f"{cell}.v").read_text()
    assert text.count(before) == 1, f"{cell}: {before!r} occurs {text.count(before)} times"
    return text.replace(before, after)


def mutants() -> None:
    rows: list[dict] = []
    for cell, before, after in BY_HAND:
        broken = with_fault(cell, before, after)
        models = {
            "sc_lif_neuron": "lif",
            "sc_homeostatic_lif_neuron": "homeostatic_lif",
            "sc_izhikevich_neuron": "izhikevich",
        }
        if cell in models or cell == "sc_neuron_update":
            model = models.get(cell) or ("homeostatic_lif" if "extra" in before else "lif")
            noise = "noise" in before
            for period in (2, 0):  # some faults show only where no rest hides them
                folded = cell == "sc_neuron_update"
                task = neuron_task(model, 12, folded=folded, text=broken, noise=noise, period=period)
                if period == 0 and model == "homeostatic_lif":  # thresholds that reach the end of the word
                    for parameters in (task["parameters"], task["dut_parameters"]):
                        parameters |= {"BUMP_K": 1900, "DECAY_K": 0}
                status, detail, took = run(neuron.neuron, task, 60)
                if status == "refuted":
                    break
        elif cell == "sc_rate_encoder":
            status, detail, took = run(
                generators.encoder, {"steps_log2": 3, "sources": {f"{cell}.v": broken}}, 60
            )
        else:
            setting = 77 if cell == "sc_lfsr" else 4
            task = {"cell": cell, "setting": setting, "sources": {f"{cell}.v": broken}}
            status, detail, took = run(generators.generator, task, 60)
        noted("mutants", rows, f"by hand, {cell}", f"{before} -> {after}", status, took, detail)

    # Faults that Yosys puts into the netlist of a cell.
    for model, width in (("lif", 8), ("izhikevich", 12)):
        cell = f"sc_{model}_neuron"
        for number, text in enumerate(yosys_mutants(cell, model, width, 15)):
            task = neuron_task(model, width, text=text)
            task["dut_parameters"] = {}  # they are in the netlist
            status, detail, took = run(netlist_neuron, task, 60)
            noted("mutants", rows, f"yosys mutate, {cell}", f"mutant {number}", status, took, detail)


def generated() -> None:
    rows: list[dict] = []
    network = {m: small_network(1, m, "membrane") for m in ("parallel", "folded")}
    for cell, before, after in IN_THE_TOP:
        sources = write_design(network["parallel"]).sources | {f"{cell}.v": with_fault(cell, before, after)}
        status, detail, took = whole(network["parallel"], sources)
        noted("generated", rows, f"by hand, {cell}", f"{before} -> {after}", status, took, detail)
    for mapping, before, after in COMPOSED:
        sources = write_design(network[mapping]).sources
        assert before in sources["design.v"], before
        sources["design.v"] = sources["design.v"].replace(before, after)
        status, detail, took = whole(network[mapping], sources)
        name = f"by hand, {mapping} layers and top"
        noted("generated", rows, name, f"{before} -> {after}", status, took, detail)
    with tempfile.TemporaryDirectory() as cache:  # what a slip does not touch is proved once
        for mapping, net in network.items():
            sources = write_design(net).sources
            for what, text in slips(sources["design.v"], 30, 7):
                start, changed = time.monotonic(), sources | {"design.v": text}
                verdict = verdicts.check_design(net, changed, timeout_s=60, workers=2, cache=cache)
                took = round(time.monotonic() - start, 2)
                bad = next(o for o in verdict.obligations if o.status == verdict.status)
                name = f"slip, {mapping} layers and top"
                noted("generated", rows, name, what, verdict.status, took, f"{bad.name}: {bad.detail}")


def whole(network: Network, sources: dict[str, str]) -> tuple[str, str, float]:
    """The composition of a design: the answer of its first layer that is not proved."""
    seconds = 0.0
    for task in tasks_of(network, sources).values():
        if task["kind"] == "composition":
            status, detail, took = run(composition, task, 60)
            seconds += took
            if status != "proved":
                break
    return status, detail, round(seconds, 2)


def yosys_mutants(cell: str, model: str, width: int, count: int) -> list[str]:
    """Verilog netlists of a cell with one fault each, chosen by Yosys."""
    task = neuron_task(model, width)
    values = task["dut_parameters"] | {"DATA_WIDTH": width, "FRACTION": WORDS[width]}
    text = (HDL / f"{cell}.v").read_text()
    for key, value in values.items():  # as defaults; Yosys takes no negative number on its command line
        text, n = re.subn(rf"parameter {key} = -?\d+", f"parameter {key} = {value}", text)
        assert n == 1, f"{cell}: parameter {key}"
    base = [f"read_verilog {cell}.v", f"hierarchy -top {cell}", "proc", "opt"]
    made = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / f"{cell}.v").write_text(text)
        done = tools.yosys([*base, f"mutate -list {count} -seed 1 -o list.ys"], folder, 60)
        if done.code != 0:
            raise RuntimeError(done.output[-500:])
        for line in (folder / "list.ys").read_text().splitlines():
            done = tools.yosys([*base, line, f"write_verilog -noattr {cell}_m.v"], folder, 60)
            if done.code != 0:
                raise RuntimeError(done.output[-500:])
            made.append((folder / f"{cell}_m.v").read_text())
    return made


def netlist_neuron(task: dict, folder: Path, deadline: float) -> tuple[str, str]:
    """As neuron.neuron, for a netlist without parameters: a difference first, then a proof that there is none.

    `proved` here means that the fault changes nothing that can be seen, ever.
    """
    machine.write_sources(task["sources"], folder)
    word = (task["data_width"], task["fraction"])
    settings = {"parameters": task["parameters"], "constants": task["constants"]}

    def pair(hidden: Hidden) -> machine.Machine:
        miter = generate_miter(task["dut"], task["ref"], "miter", *word, hidden=hidden, **settings)
        dut = re.search(rf"    {task['dut']} #\(.*?\) dut", miter)[0]
        (folder / "miter.v").write_text(miter.replace(dut, f"    {task['dut']} dut"))
        return machine.elaborate(miter_script("miter", [*task["sources"], "miter.v"], hidden), folder, 60)

    answer = induction.simulated(pair(Hidden()), 20_000, 0, deadline)
    if answer.status == "unknown":
        hidden = hidden_state(task["ref"], task["parameters"], *word, constants=task["constants"])
        answer = induction.prove(pair(hidden), 1, deadline, hidden.cuts)
    return answer.status, f"{answer.failed} in clock {answer.depth}" if answer.failed else ""


# --- whole designs -----------------------------------------------------------------------------------------

SEARCH = (
    "task=digits target=ice40 space.min_layers=2 space.max_layers=2 space.width_choices=[32] "
    "search.population_size=4 search.generations=2 train.epochs=2 train.full_epochs=8 train.final_seeds=1 "
    "build=none"
)  # a winner of 64-32-10, trained just long enough to look like one


def designs() -> None:
    rows = []

    def note(name: str, configuration: str, verdict: dict, wall: float) -> None:
        kinds = Counter(o["kind"] for o in verdict["obligations"])
        longest = max(verdict["obligations"], key=lambda o: o["seconds"])
        parts = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        rows.append(
            {"name": name, "configuration": configuration, "status": verdict["status"],
             "engine": f"bitwuzla, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
             "seconds": round(wall, 1),
             "detail": f"{len(verdict['obligations'])} obligations ({parts}), {verdict['seconds']:.0f} s of "
             f"proofs; longest {longest['seconds']:.0f} s: {longest['name']}"}
        )  # fmt: skip
        print(rows[-1], flush=True)
        record("designs", rows)

    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "scnas"]
    for mapping in ("parallel", "folded"):
        with tempfile.TemporaryDirectory() as folder:
            environment["XDG_CACHE_HOME"] = f"{folder}/cache"  # nothing is known from earlier proofs
            words = [*SEARCH.split(), f"space.mapping_choices=[{mapping}]", f"hydra.run.dir={folder}/run"]
            subprocess.run([*command, *words], cwd=ROOT, env=environment, check=True)
            start = time.monotonic()
            subprocess.run(
                [*command, "job=verify", f"run={folder}/run"], cwd=ROOT, env=environment, check=True
            )
            wall = time.monotonic() - start
            place = Path(folder) / "run" / "winner"
            verdict = json.loads((place / "verdict.json").read_text())
            title = (place / "design.v").read_text().splitlines()[1].removeprefix("// ")
            note(f"job=verify on digits, {mapping}", title, verdict, wall)

    common = {"neuron": "lif", "timesteps": 8, "length": 16, "generator": "sobol"}
    folded = {"mapping": "folded", "max_delay": 0}
    for name, sizes, settings in (
        ("64-64-10 folded, 64 lanes", (64, 64, 10), [folded | {"lanes": 64}] * 2),
        ("64-64-10 parallel, half of the synapses", (64, 64, 10), [{"density": 0.5, "max_delay": 1}] * 2),
        ("784-32-10 folded, 128 and 32 lanes", (784, 32, 10), [folded | {"lanes": n} for n in (128, 32)]),
        ("784-32-10 parallel, one synapse in ten", (784, 32, 10), [{"density": 0.1, "max_delay": 0}] * 2),
    ):
        layers = tuple(
            random_layer(np.random.default_rng(i), sizes[i], sizes[i + 1], **common | settings[i])
            for i in range(2)
        )
        network = Network(sizes[0], 8, "rate", 8, 16, "membrane", layers)
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            design = write_design(network)
            verdict = verdicts.check_design(network, design.sources, timeout_s=600, cache=folder)
            wall = time.monotonic() - start
            synapses = sum(layer.n_synapses for layer in layers)
            what = f"random weights, {synapses} synapses, T=8, L=16, {design.latency_clocks} clocks"
            note(name, what, verdict.to_dict(), wall)


if __name__ == "__main__":
    parts = {"cells": cells, "trees": trees, "mutants": mutants, "generated": generated, "designs": designs}
    if len(sys.argv) != 2 or sys.argv[1] not in parts:
        sys.exit(__doc__)
    parts[sys.argv[1]]()
