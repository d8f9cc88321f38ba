"""Which layers a GPU counts and scans in one kernel, and how much of one a program takes."""

from scnas.snn.reference.synapses import Kind

MOST_INPUTS = 256  # with 64 neurons their matrix of 32 KiB stays on the chip
ROWS, COLUMNS = 32, 64  # samples and neurons of one program, at most


def fuses(kind: Kind, inputs: int, neurons: int, span: int, shared: bool) -> bool:
    """Whether a layer with neurons is counted and scanned in one kernel, gpu.layer: where that moves fewer
    bytes.

    span: its longest delay. shared: all candidates have the same input. Of a sample and step, in two kernels:
    spikes are read, 4 bytes, written as bfloat16 and read again, 2 and 2, for every delay copied and read
    once more, 6; if shared, that is nothing for one candidate. Currents are written and read by the scan and
    by the backward pass, 12, and for every delay a part is written, read and added to what is read and
    written again, 16. In one kernel, every block of neurons reads all spikes anew for each delay, 4, and,
    where the matrices are several, every block of samples those, 2 a synapse. What is read again most often
    comes from a cache and is counted as if it did not. The products are the same in both.

    lfsr layers stay apart: their matrix differs from step to step, so that every block of samples would read
    it anew, 2 bytes an input for each of 32 samples; and the backward pass would need the current, which only
    a matrix that stays can replace (see back_through_synapses).
    """
    apart = neurons * (12 + 16 * span) + (0 if shared else inputs * (8 + 6 * span))
    blocks, matrices = -(-neurons // columns_of(inputs, neurons, span)), span + 1
    fused = 4 * inputs * blocks * matrices + (2 * inputs * neurons * matrices / ROWS if span else 0)
    return kind.generator == "sobol" and kind.exact and inputs <= MOST_INPUTS and fused <= apart


def columns_of(inputs: int, neurons: int, span: int) -> int:
    """Neurons of one program: as many as there are, but no more than registers hold."""
    return min(COLUMNS // 2 if span and inputs > 128 else COLUMNS, tile(neurons))


def tile(n: int) -> int:
    """The power of two that n fits in, and at least what a product of tensor cores takes."""
    return max(16, 1 << (n - 1).bit_length())
