"""One update of a neuron as combinational Verilog, derived from its description.

State in, state out, as in hdl/sc_neuron_update.v, but of one model with its constants, and every intermediate
as wide as its interval: what the bounds of the inputs allow, and not a bit more.

Letters: W bits of a word, F fraction bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from scnas.snn.derive import Arithmetic, Ranges, bounds, read, signed_bits, used_constants
from scnas.snn.models import Format, Model, Node


def literal(value: int, bits: int) -> str:
    """A signed Verilog number of so many bits, which keeps its sign wherever it is extended."""
    return f"{bits}'sh{value % 2**bits:x}"


@dataclass(frozen=True)
class Wire:
    """A signed value: its text, a name or a literal, and the interval in which it lies."""

    text: str
    low: int
    high: int

    @property
    def bits(self) -> int:
        return signed_bits(self.low, self.high)

    @property
    def ends(self) -> tuple[int, int]:
        return self.low, self.high


@dataclass
class Wires(Arithmetic[Wire]):
    """Every operator as a wire of its own in `lines`."""

    q: Format
    lines: list[str] = field(default_factory=list)

    @property
    def _ranges(self) -> Ranges:
        return Ranges(self.q)

    def wire(self, text: str, ends: tuple[int, int], name: str | None = None) -> Wire:
        """A wire that carries `text`, whose values lie in `ends`."""
        name = name or f"_t{len(self.lines)}"
        made = Wire(name, *ends)
        self.lines.append(f"wire signed [{made.bits - 1}:0] {name} = {text};")
        return made

    def number(self, value: int) -> Wire:
        return Wire(literal(value, signed_bits(value, value)), value, value)

    def real(self, numerator: int, denominator: int) -> Wire:
        return self.number(self._ranges.real(numerator, denominator)[0])

    def add(self, a: Wire, b: Wire) -> Wire:
        return self.wire(f"{a.text} + {b.text}", self._ranges.add(a.ends, b.ends))

    def sub(self, a: Wire, b: Wire) -> Wire:
        return self.wire(f"{a.text} - {b.text}", self._ranges.sub(a.ends, b.ends))

    def times(self, factor: int, a: Wire) -> Wire:
        number = self.number(factor)
        return self.wire(f"{a.text} * {number.text}", self._ranges.times(factor, a.ends))

    def mul(self, a: Wire, b: Wire) -> Wire:
        corners = [x * y for x in a.ends for y in b.ends]
        full = self.wire(f"{a.text} * {b.text}", (min(corners), max(corners)))
        return self.wire(f"{full.text} >>> {self.q.fraction}", self._ranges.mul(a.ends, b.ends))

    def choose(self, condition: Wire, a: Wire, b: Wire) -> Wire:
        text = f"{condition.text} ? {a.text} : {b.text}"
        return self.wire(text, self._ranges.choose(condition.ends, a.ends, b.ends))

    def saturated(self, a: Wire, name: str | None = None) -> Wire:
        """`a` as a word. It is in range when all its bits from the sign of the word upwards agree: gates,
        where comparisons with the limits would be two carry chains."""
        W, top, word = self.q.word, a.bits - 1, (-self.q.half, self.q.half - 1)
        if a.bits <= W:
            return self.wire(a.text, word, name)
        upper = f"{a.text}[{top}:{W - 1}]"
        clamped = f"{{{a.text}[{top}], {{{W - 1}{{~{a.text}[{top}]}}}}}}"
        return self.wire(f"(&{upper} | ~|{upper}) ? {a.text}[{W - 1}:0] : {clamped}", word, name)


def datapath(
    model: Model,
    name: str,
    q: Format,
    constants: Mapping[str, int],
    noise: tuple[int, int] = (0, 0),
    free: tuple[str, ...] = (),
) -> str:
    """A module: threshold, I_t, noise_in, v, the further words and `waiting`, the refractory steps left, in;
    `fires` and <word>_next and waiting_next out.

    constants: those that the model uses. noise: its least and greatest value; noise_in is a port of a noisy
    model alone. free: constants that are ports of a word each instead.
    """
    W, word, noisy = q.word, (-q.half, q.half - 1), "noise" in model.names
    state = ["v", *(x.name for x in model.words)]
    period = constants["refractory"]
    waiting_bits = max(1, period.bit_length())
    noise_bits = signed_bits(*noise)

    ranges = dict.fromkeys((*state, "I", "threshold", *free), word)
    ranges |= {k: (constants[k],) * 2 for k in used_constants(model) if k not in free and k != "refractory"}
    ranges |= {"noise": noise}
    texts = {"I": "I_t", "noise": "noise_in"} | {k: k for k in (*state, "threshold", *free)}
    wires = Wires(q)
    names = {k: Wire(texts[k], *ends) if k in texts else wires.number(ends[0]) for k, ends in ranges.items()}
    names["fires"] = Wire("fires", 0, 1)

    def summed(node: Node, target: str) -> Wire:
        """A sum as wide as its exact bounds, which may be narrower than those of its parts."""
        return wires.wire(read(node, names, wires).text, bounds(node, ranges, q), target)

    p = wires.saturated(summed(model.charge, "charge"), "p")
    limit = summed(model.limit, "limit")
    for x in model.words:
        wires.saturated(summed(x.update, f"{x.name}_sum"), f"{x.name}_new")

    ports = [f"input wire signed [{W - 1}:0] {k}" for k in (*free, "threshold", "I_t")]
    ports += [f"input wire signed [{noise_bits - 1}:0] noise_in"] * noisy
    ports += [f"input wire signed [{W - 1}:0] {k}" for k in state]
    ports += [f"input wire [{waiting_bits - 1}:0] waiting", "output wire fires"]
    ports += [f"output wire signed [{W - 1}:0] {k}_next" for k in state]
    ports += [f"output wire [{waiting_bits - 1}:0] waiting_next"]
    rest, reset = (literal(constants[k], W) for k in ("v_rest", "v_reset"))
    lines = [
        f"module {name} (",
        ",\n".join(f"    {port}" for port in ports),
        ");",
        "    /* verilator lint_off WIDTH */",
        f"    wire rests = waiting != {waiting_bits}'d0;",
        *(f"    {line}" for line in wires.lines),
        f"    assign fires = ~rests & ({p.text} >= {limit.text});",
        f"    assign v_next = rests ? {rest} : fires ? {reset} : {p.text};",
        *(f"    assign {x.name}_next = {x.name}_new;" for x in model.words),
        f"    assign waiting_next = fires ? {waiting_bits}'d{period} : waiting - rests;",
        "    /* verilator lint_on WIDTH */",
        "endmodule",
    ]
    return "\n".join(lines) + "\n"
