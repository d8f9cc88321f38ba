"""How the inner states of our own cells and of their references hang together.

Only with these relations is one step of induction enough: two neurons whose ports agreed so far need not
agree in their states.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from scnas.equiv.cut import Cut
from scnas.equiv.miter import Hidden, literal

Wires = dict[str, tuple[int, bool, str]]  # output of the miter -> bits, signed, path after flattening


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
    noise_width = noise_width or data_width
    pair = _Pair(parameters, data_width, fraction, dut_parameters or {}, noise_width, constants or {})
    if folded:
        return _of_update(pair, reference)
    match reference:
        case "sc_lif_reference":
            return _of_leaky(pair)
        case "sc_homeostatic_lif_reference":
            return _of_homeostatic(pair)
        case "sc_izhikevich_reference":
            return _of_izhikevich(pair)
    return Hidden()


@dataclass(frozen=True)
class _Pair:
    """What is known of a cell and its reference: the arguments of `hidden_state`."""

    parameters: Mapping[str, int]
    data_width: int
    fraction: int
    dut_parameters: Mapping[str, int]
    noise_width: int
    constants: Mapping[str, int]

    @property
    def half(self) -> int:
        return 2 ** (self.data_width - 1)

    @property
    def word(self) -> tuple[int, int]:
        """The ends of a word."""
        return -self.half, self.half - 1

    @property
    def full(self) -> int:
        """Bits of the sums and products of an Izhikevich neuron and of the folded datapath."""
        return 3 * self.data_width + self.noise_width + 8

    @property
    def period(self) -> int:
        return self.parameters.get("REFRACTORY_PERIOD", 0)

    @property
    def v_rest(self) -> int:
        return self.parameters.get("V_REST", 0)

    def ends(self, constant: str) -> tuple[int, int]:
        """The ends of an input that may be tied."""
        return (self.constants[constant],) * 2 if constant in self.constants else self.word

    def cut(self, dut: str, ref: str, a: tuple[int, int], b: tuple[int, int], offset: int = 0) -> Cut:
        """A cut at mul(a, b)."""
        ends = [x * y >> self.fraction for x in a for y in b]
        return Cut(dut, ref, min(ends), max(ends), offset)

    def products(self) -> tuple[Cut, Cut, Cut]:
        """Cuts at the three products of an Izhikevich neuron."""
        b, a = self.parameters.get("B_K", 51), self.parameters.get("A_K", 5)
        target = self.cut("dut_target", "ref_target", self.word, (b, b))
        difference = (target.low - self.half, target.high + self.half)
        square = self.cut("dut_square", "ref_square", self.word, self.word)
        return square, target, self.cut("dut_moved", "ref_moved", difference, (a, a))


_WAITING: Wires = {"waiting": (32, False, "ref.waiting")}


def _of_update(pair: _Pair, reference: str) -> Hidden:
    """The folded datapath, sc_update_as_neuron."""
    width, full = pair.data_width, pair.full
    wires = _WAITING | {
        "left": (pair.dut_parameters["WAITING_WIDTH"], False, "dut.left"),
        "v_dut": (width, True, "dut.v"),
        "v_ref": (width, True, "ref.v_out"),
        "p_dut": (width, True, "dut.update.p"),
        "dut_driven": (full, True, "dut.update.driven"),
    }
    relations = {"rest_counters": "waiting == left"}
    cuts = [Cut("v_dut", "v_ref", *pair.word)]
    inner = {"sc_homeostatic_lif_reference": "a", "sc_izhikevich_reference": "u"}.get(reference)
    if inner:
        wires["extra_dut"] = (width, True, "dut.extra")
        wires["extra_ref"] = (width, True, f"ref.{inner}")
        relations["extra"] = "extra_dut == extra_ref"
        cuts.append(Cut("extra_dut", "extra_ref", *pair.word))
    bits_ref = 128 if inner == "u" else 96
    wires["ref_drive"] = (bits_ref, True, "ref.drive")
    wires["p_ref"] = (bits_ref, True, "ref.p")
    cuts.append(pair.cut("dut_driven", "ref_drive", pair.word, pair.ends("gain_k")))
    if inner == "u":
        for name in ("square", "target", "moved"):
            wires[f"dut_{name}"] = (full, True, f"dut.update.izhikevich.{name}")
            wires[f"ref_{name}"] = (128, True, f"ref.{name}")
        cuts += pair.products()
    cuts.append(Cut("p_dut", "p_ref", *pair.word))
    return Hidden(wires, relations, tuple(cuts))


def _of_leaky(pair: _Pair) -> Hidden:
    """The cell of a leaky neuron; the membrane of its cell counts from V_REST."""
    width, noise, fraction, period = pair.data_width, pair.noise_width, pair.fraction, pair.period
    one, v_rest = 2**fraction, pair.v_rest
    wires, relations = dict(_WAITING), {}
    if period or v_rest >= pair.parameters.get("V_THRESHOLD", 256):
        counter_bits = max(1, (period - 1).bit_length()) if period > 1 else 1
        wires["left"] = (counter_bits, False, "dut.rests.left")
        wires["rest"] = (1, False, "dut.rests.rest")
        relations["rest_counters"] = f"waiting == (spike_out ? {period} : left)"
        relations["rest_flag"] = "rest || left == 0"
    else:
        relations["never_rests"] = "waiting == 0"
    sum_width = pair.dut_parameters.get("SUM_WIDTH") or 2 * width + noise + 4
    wires |= {
        "dut_driven": (sum_width + width + fraction + 2, True, "dut.driven"),
        "ref_drive": (96, True, "ref.drive"),
        "dut_kept": (sum_width, True, "dut.kept"),
        "ref_remaining": (96, True, "ref.remaining"),
    }
    above_rest = (-pair.half - v_rest, pair.half - 1 - v_rest)
    least, most = pair.ends("leak_k")
    cuts = (
        pair.cut("dut_driven", "ref_drive", pair.word, pair.ends("gain_k")),
        pair.cut("dut_kept", "ref_remaining", above_rest, (one - most, one - least), offset=v_rest),
    )
    return Hidden(wires, relations, cuts)


def _of_homeostatic(pair: _Pair) -> Hidden:
    """A leaky neuron whose threshold rises: its adaptation is one step behind that of the reference."""
    leaky, width = _of_leaky(pair), pair.data_width
    decay, bump = pair.parameters.get("DECAY_K", 16), pair.parameters.get("BUMP_K", 64)
    top, bottom = literal(pair.half - 1, 96), literal(-pair.half, 96)
    wires = {"a_before": (width, True, "dut.a"), "a_after": (width, True, "ref.a")}
    relations = {
        "": "wire signed [95:0] a_wide = a_before;\n"
        "    wire signed [95:0] raised = "
        f"a_wide - ((a_wide * {literal(decay, 96)}) >>> {pair.fraction})"
        f" + (spike_out ? {literal(bump, 96)} : 96'sd0);",
        "adaptation": f"a_after == (raised > {top} ? {top} : raised < {bottom} ? {bottom} : raised)",
    }
    return Hidden({**leaky.wires, **wires}, {**leaky.relations, **relations}, leaky.cuts)


def _of_izhikevich(pair: _Pair) -> Hidden:
    """The cell of an Izhikevich neuron."""
    width, word = pair.data_width, pair.word
    wires = _WAITING | {"u_dut": (width, True, "dut.u"), "u_ref": (width, True, "ref.u")}
    wires |= {"v_dut": (width, True, "dut.v"), "v_ref": (width, True, "ref.v_out")}
    wires |= {"p_dut": (width, True, "dut.p"), "p_ref": (128, True, "ref.p")}
    for name in ("square", "driven", "target", "moved"):
        wires[f"dut_{name}"] = (pair.full, True, f"dut.{name}")
        wires[f"ref_{name}"] = (128, True, "ref.drive" if name == "driven" else f"ref.{name}")
    square, target, moved = pair.products()
    cuts = (
        Cut("v_dut", "v_ref", *word),
        Cut("u_dut", "u_ref", *word),
        square,
        pair.cut("dut_driven", "ref_driven", word, pair.ends("gain_k")),
        target,
        moved,
        Cut("p_dut", "p_ref", *word),
    )
    relations = {"recovery": "u_dut == u_ref"}
    if pair.period:
        wires["left"] = (pair.period.bit_length(), False, "dut.rests.left")
        relations["rest_counters"] = "waiting == left"
    else:
        relations["never_rests"] = "waiting == 0"
    return Hidden(wires, relations, cuts)
