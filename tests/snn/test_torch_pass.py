"""Synapses and passes of the reference: what a GPU computes is exact, waits for nothing, and can be recorded.

Without a GPU the same code runs on the CPU: bfloat16 products by their definition, graphs by a tape of the
operations that a step calls. What only a device can show is marked gpu.
"""

import contextlib
import math
import time
import warnings
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_passes import batch, population, stacks
from test_training import QUICK, VALUES, arch, figures
from torch.utils._python_dispatch import TorchDispatchMode

from scnas import tasks
from scnas.snn import backends, sparsity, steps, training
from scnas.snn import groups as grouping
from scnas.snn.cpu.passes import CpuPass
from scnas.snn.population import PopulationStack
from scnas.snn.reference import synapses
from scnas.snn.reference.adam import TorchAdam
from scnas.snn.reference.operations import REFERENCE, Operations
from scnas.snn.reference.passes import TorchPass
from scnas.snn.reference.synapses import exact_in_bf16, full_float32, operand_dtype, product
from scnas.snn.samples import Samples
from scnas.snn.steps import EagerStep, GraphStep, graph_step
from scnas.snn.streams import rate_encode, van_der_corput
from scnas.space import Architecture

CPU = torch.device("cpu")


def on_gpu(test):
    """Marks a test that needs a CUDA device; without one it is skipped, and the summary says so."""
    skip = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
    return pytest.mark.gpu(skip(test))


# --- what bfloat16 holds --------------------------------------------------------------------------


def entries(length: int, fraction: int) -> torch.Tensor:
    """Every entry that the matrix of a layer with streams of `length` clocks can have, float64."""
    ones = torch.arange(-length, length + 1, dtype=torch.float64)
    return ones * 2.0**fraction / length


def held(values: torch.Tensor) -> bool:
    return torch.equal(values.to(torch.bfloat16).double(), values)


@pytest.mark.parametrize("fraction", range(17))
def test_bfloat16_holds_every_entry_where_the_rule_says_so_and_lacks_some_elsewhere(fraction):
    for length in (2**i for i in range(fraction + 1)):
        assert held(entries(length, fraction)) == exact_in_bf16(length), (length, fraction)
    assert held(torch.tensor([0.0, 1.0], dtype=torch.float64))  # spikes


def test_the_rule_ends_at_256_worked_by_hand():
    """256 = 2^8; 257 needs nine bits and becomes 256; of 512 clocks a stream can hold 257 ones."""
    assert exact_in_bf16(256) and not exact_in_bf16(512)
    assert torch.tensor([256.0, 257, 258]).to(torch.bfloat16).tolist() == [256, 256, 258]


def test_only_cuda_gets_bfloat16_and_only_where_it_is_exact():
    found = {
        (d, e): operand_dtype(backends.backend_on(d).operations.bf16, e)
        for d in ("cpu", "cuda", "mps")
        for e in (True, False)
    }
    assert found.pop(("cuda", True)) == torch.bfloat16
    assert set(found.values()) == {torch.float32}


def widened(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """A product as tensor cores define it: operands as they are held, sums in float32."""
    return a.float() @ b.float()


class Products:
    """Every product of matrices: what its operands were held in, and their shapes."""

    def __init__(self, monkeypatch, like_cuda: bool):
        self.seen = []
        if like_cuda:
            monkeypatch.setattr(
                "scnas.snn.population.operand_dtype", lambda bf16, exact: operand_dtype(True, exact)
            )
        monkeypatch.setattr(synapses, "_dot", self._dot)

    def _dot(self, a, b):
        assert a.dtype == b.dtype
        self.seen.append((a.dtype, tuple(a.shape), tuple(b.shape)))
        return widened(a, b)


def random_stack(seed: int, **changes) -> PopulationStack:
    return stacks(seed, **changes)[0]


@pytest.mark.parametrize("seed", range(6))
def test_scores_are_the_same_with_bfloat16_operands(seed, monkeypatch):
    """Of all models, generators, delays and lengths, against the kernels of the CPU."""
    stack = random_stack(seed)
    levels, spikes, labels = batch(seed, "rate")
    expected = CpuPass(stack, van_der_corput(8)).scores(levels)
    products = Products(monkeypatch, like_cuda=True)
    x = torch.tensor(spikes).transpose(0, 1).float()
    scores, counts = TorchPass(stack).scores(x)
    assert torch.equal(scores.double(), expected[0].double()) and (counts == expected[1]).all()
    assert {dtype for dtype, *_ in products.seen} == {torch.bfloat16}
    products.seen.clear()
    TorchPass(stack).gradients(x, torch.tensor(labels), 0.5)
    forward = [dtype for dtype, *_ in products.seen if dtype == torch.bfloat16]
    assert 0 < len(forward) < len(products.seen)  # gradients stay float32


def test_long_streams_are_multiplied_in_float32_and_their_neighbours_are_not(monkeypatch):
    """F = 12: L = 512 and 4,096 are beyond bfloat16. With the rule gone the scores are wrong."""
    group = [arch(length=n, fraction=12, word=20, hidden=(40,)) for n in (16, 256, 512, 4096)]
    stack = PopulationStack(group, 0, CPU)
    x = VALUES.validation.x
    spikes = torch.tensor(rate_encode(x, 8)).transpose(0, 1).float()
    expected = TorchPass(stack).scores(spikes)[0]
    products = Products(monkeypatch, like_cuda=True)
    assert torch.equal(TorchPass(stack).scores(spikes)[0], expected) and expected.unique().numel() > 100
    assert [dtype for dtype, *_ in products.seen] == [torch.bfloat16, torch.float32] * 2
    for layer in stack.layers:
        layer.operands = [kind._replace(exact=True) for kind in layer.operands]
        layer._members.clear()
    wrong = TorchPass(stack).scores(spikes)[0] != expected
    assert not wrong[:2].any() and wrong[2:].any()


@pytest.mark.parametrize("shape", [(), (2,)])
def test_a_product_of_bfloat16_is_asked_for_in_float32(shape, monkeypatch):
    """A CPU has no such product: here what is asked for is seen, a device shows that it is right."""
    asked = []
    for name in ("mm", "bmm"):
        monkeypatch.setattr(torch, name, lambda a, b, **more: asked.append((a.dtype, more)) or widened(a, b))
    for dtype in (torch.bfloat16, torch.float32):
        synapses._dot(torch.ones(*shape, 2, 3, dtype=dtype), torch.ones(*shape, 3, 4, dtype=dtype))
    assert asked == [(torch.bfloat16, {"out_dtype": torch.float32}), (torch.float32, {})]


# --- sums over the steps --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inputs, timesteps, fraction, word, sums",
    [(127, 4, 8, 16, True), (128, 4, 8, 16, False),  # 128 * 256 = 2^15 is one more than the word holds
     (2**15, 128, 8, 30, False), (2**15 - 1, 2, 8, 30, True),  # inputs * 2^F * T against 2^24
     (256, 256, 8, 24, False), (255, 256, 8, 24, True),
     (1, 256, 4, 16, True), (1, 257, 4, 16, False)],  # bfloat16 lacks 257
)  # fmt: skip
def test_whose_currents_are_summed_up_at_once_worked_by_hand(inputs, timesteps, fraction, word, sums):
    assert synapses.sums_up("sobol", inputs, timesteps, fraction, word) == sums
    assert not synapses.sums_up("lfsr", inputs, timesteps, fraction, word)


@pytest.mark.parametrize("word", [16, 15])
def test_scores_at_the_bound_are_the_same_summed_or_not(word):
    """127 inputs that spike in every step over weights of 1: 127 * 256 is the highest current of a word of 16
    bits that is summed up; with 15 it saturates, and is not."""
    a = Architecture(127, (3,), ("lif",), (16,), (0,), timesteps=8, word=word)
    stack = PopulationStack([a], 0, CPU)
    assert stack.layers[0].operands[0].summed == (word == 16)
    with torch.no_grad():
        stack.layers[0].tensors["weight"].fill_(1.0)
    scores, _ = TorchPass(stack).scores(torch.ones(8, 2, 127))
    assert (scores == 8 * min(127 * 256, 2 ** (word - 1) - 1)).all()


# --- products -------------------------------------------------------------------------------------


def test_the_input_of_all_candidates_is_multiplied_once(monkeypatch):
    """P = 3, T = 8, B = 16, 12 inputs, 8 neurons: [T * B, n] times [n, P * m], and back over T * B; of lfsr
    streams, whose matrices differ from step to step, one of that width for each step."""
    f32 = torch.float32
    spikes = torch.tensor(rate_encode(VALUES.train.x[:16], 8)).transpose(0, 1).float()
    labels = torch.tensor(VALUES.train.y[:16])
    for generator, first in (("sobol", ((128, 12), (12, 24))), ("lfsr", ((8, 16, 12), (8, 12, 24)))):
        stack = PopulationStack([arch(generator=generator, length=n) for n in (4, 16, 64)], 0, CPU)
        products = Products(monkeypatch, like_cuda=False)
        TorchPass(stack).gradients(spikes, labels, 0.0)
        assert products.seen[0] == (f32, *first)
        assert products.seen[-1] == (f32, (12, 128), (128, 24))  # the gradient of the first weights
        assert len(products.seen) == 5  # and forward, to spikes and to weights of the second layer


@pytest.mark.parametrize("streams", [1, 5])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("most", [2**15, 4])
def test_a_product_is_that_of_its_definition(rows, streams, most, monkeypatch):
    """Also where a batched product is cut into several, since CUDA limits how many matrices it takes."""
    monkeypatch.setattr(synapses, "BATCHES", most)
    dice = torch.Generator().manual_seed(0)
    a = torch.randint(-9, 9, (rows, 5, 2, 4), generator=dice).float()
    matrix = torch.randint(-9, 9, (3, streams, 4, 6), generator=dice).float()
    expected = torch.einsum("ptbn,ptnm->ptbm", a.expand(3, -1, -1, -1), matrix.expand(-1, 5, -1, -1))
    out = product(a, matrix)
    assert torch.equal(out, expected)
    assert out.permute(1, 2, 0, 3).is_contiguous() == (rows == 1)  # shared rows: side by side


def precision() -> tuple:
    switch = torch.backends.cuda.matmul
    try:
        legacy = torch.get_float32_matmul_precision(), switch.allow_tf32
    except RuntimeError:
        legacy = None
    beside = torch.backends.mkldnn.matmul.fp32_precision
    return switch.fp32_precision, legacy, beside, switch.allow_bf16_reduced_precision_reduction


SETTINGS = {
    "as it comes": lambda: None,
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "the older switch": lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    "the newer switch": lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
}


@pytest.fixture
def precision_put_back():
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.mkldnn.matmul.fp32_precision = "none"
    torch.backends.cuda.matmul.fp32_precision = "none"


@pytest.mark.parametrize("setting", SETTINGS)
def test_float32_is_whole_inside_and_as_it_was_outside(setting, precision_put_back):
    SETTINGS[setting]()
    before = precision()
    with pytest.raises(KeyError), full_float32():
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert not torch.backends.cuda.matmul.allow_tf32  # or a product would be refused
        assert not torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
        raise KeyError
    assert precision() == before


def test_every_product_of_a_pass_is_of_whole_float32(monkeypatch, precision_put_back):
    torch.set_float32_matmul_precision("high")
    seen, plain = [], synapses._dot
    monkeypatch.setattr(
        synapses,
        "_dot",
        lambda a, b: (seen.append(torch.backends.cuda.matmul.fp32_precision), plain(a, b))[1],
    )
    stack = random_stack(2)
    x, labels = minibatch(2)
    TorchPass(stack).gradients(x, labels, 0.5)
    forward_and_back = len(seen)
    TorchPass(stack).scores(x)
    assert len(seen) > forward_and_back > 6 and set(seen) == {"ieee"}
    assert torch.backends.cuda.matmul.allow_tf32


# --- nothing waits for the device -----------------------------------------------------------------


def minibatch(seed: int, samples: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    _, spikes, labels = batch(seed, "rate", samples=samples)
    return torch.tensor(spikes).transpose(0, 1).float(), torch.tensor(labels)


class Waited(AssertionError):
    pass


# Operations whose result, or its shape, has to be known to the host, and those that bring data from it.
WAITS = {
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique_dim", "_unique2",
    "unique_consecutive", "bincount", "lift_fresh", "lift", "_assert_async",
}  # fmt: skip
# What reads or copies a tensor past the dispatcher when it lies on a CPU, and waits when it lies elsewhere.
READS = (
    "item", "tolist", "numpy", "cpu", "cuda", "__bool__", "__int__", "__float__", "__index__", "__array__",
    "__contains__",
)  # fmt: skip
MAKES = ("tensor", "as_tensor", "from_numpy", "asarray")


class NoWaiting(TorchDispatchMode):
    """Raises Waited at whatever would make the host wait for a CUDA device, or the device for the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        if name in WAITS:
            raise Waited(name)
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            if any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]):
                raise Waited(f"{name} with a mask")
        if name == "repeat_interleave" and (kwargs or {}).get("output_size") is None:
            raise Waited(name)
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def no_waiting():
    def refuse(name):
        def refused(*args, **kwargs):
            raise Waited(name)

        return refused

    with pytest.MonkeyPatch.context() as patch:
        for name in READS:
            patch.setattr(torch.Tensor, name, refuse(name))
        for name in MAKES:
            patch.setattr(torch, name, refuse(name))
        with NoWaiting():
            yield


def opened(seed: int, operations: Operations = REFERENCE, **changes) -> tuple[TorchPass, TorchAdam]:
    stack = stacks(seed, operations=operations, **changes)[0]
    rates = {k: 0.01 * r for k, r in training.RATES.items()}
    return TorchPass(stack), TorchAdam(stack, rates, 1.0, operations.adam)


@pytest.mark.parametrize("like_cuda", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_step_waits_for_nothing(seed, like_cuda, monkeypatch):
    if like_cuda:
        Products(monkeypatch, like_cuda=True)
    learner, adam = opened(seed)
    x, labels = minibatch(seed)
    step = EagerStep(learner, adam)
    step(x, labels, 0.7, 1.0)  # what is made once
    with no_waiting():
        norms = step(x, labels, 0.3, 0.5)
    assert torch.isfinite(norms).all() and (norms > 0).all()


def test_a_minibatch_is_taken_without_waiting():
    for encoder, x in (("rate", VALUES.train.x), ("events", np.ones((20, 8, 3), np.uint8))):
        samples = Samples(tasks.Split(x, np.zeros(len(x), np.int64)), encoder, 8, torch.device("meta"))
        assert not samples.arrays
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "CPU", backends.TORCH)
        samples = Samples(VALUES.train, "rate", 8, CPU)
    order = samples.in_order(np.array([5, 3, 9, 0]), 3)
    with no_waiting():
        x, labels = samples.batch(order[1:3])
        last, none = samples.batch(order[3:6])
    assert np.array_equal(x.transpose(0, 1).numpy(), rate_encode(VALUES.train.x[[3, 9]], 8))
    assert labels.tolist() == VALUES.train.y[[3, 9]].tolist()
    assert last.shape == (8, 3, 12) and none.tolist() == [VALUES.train.y[0], -1, -1]  # filled up
    assert len(samples.in_order(np.arange(5), 8)) == 5  # one batch is as large as it is


def test_what_fills_up_a_batch_does_not_count():
    """Losses and gradients are those of the samples before it."""
    (plain, _), (filled, _) = opened(1), opened(1)
    x, labels = minibatch(1)
    more = torch.cat([x, x[:, :4]], 1), torch.cat([labels, torch.full((4,), -1)])
    torch.testing.assert_close(filled.gradients(*more, 0.5), plain.gradients(x, labels, 0.5))
    for a, b in zip(filled.tensors, plain.tensors, strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)


PLANTED = {
    "item": lambda t: t.sum().item(),
    "float": lambda t: float(t.sum()),
    "if": lambda t: 1 if t.sum() > 0 else 0,
    "mask": lambda t: t[t > 0],
    "nonzero": lambda t: t.nonzero(),
    "where": lambda t: torch.where(t > 0),
    "host data": lambda t: t + torch.tensor([1.0]),
    "an array": lambda t: t.detach().numpy(),
    "to the host": lambda t: t.cpu(),
    "a list as index": lambda t: t[[0, 1]],
}


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("where", ["forward", "adam"])
def test_what_waits_is_noticed(name, where, monkeypatch):
    learner, adam = opened(1)
    x, labels = minibatch(1)
    step = EagerStep(learner, adam)
    step(x, labels, 0.7, 1.0)
    if where == "adam":
        clamp = PopulationStack.clamp
        monkeypatch.setattr(PopulationStack, "clamp", lambda s: (PLANTED[name](s.scale), clamp(s)))
    else:
        losses = PopulationStack.losses
        monkeypatch.setattr(
            PopulationStack, "losses", lambda s, *a: (PLANTED[name](s.scale), losses(s, *a))[1]
        )
    with pytest.raises(Waited), no_waiting():
        step(x, labels, 0.3, 0.5)


class Counted(TorchDispatchMode):
    """How many operations are called."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        return func(*args, **(kwargs or {}))


def test_more_candidates_are_no_more_operations():
    """One product, one scan, one step of Adam for all: what grows is tensors."""
    kinds = [arch(neuron=n, delay=2, generator=g) for n in ("lif", "izhikevich") for g in ("sobol", "lfsr")]
    calls = []
    for copies in (1, 9):
        stack = PopulationStack([replace(a, word=8 + i) for i in range(copies) for a in kinds], 0, CPU)
        adam = TorchAdam(stack, dict.fromkeys(training.RATES, 0.01), 1.0)
        spikes = torch.tensor(rate_encode(VALUES.train.x[:8], 8)).transpose(0, 1).float()
        with Counted() as counted:
            EagerStep(TorchPass(stack), adam)(spikes, torch.tensor(VALUES.train.y[:8]), 0.5, 1.0)
        calls.append(counted.calls)
    once = 12  # members of the parts and tables are made in the first step
    assert abs(calls[1] - calls[0]) <= once and calls[0] > 100


# --- steps that are recorded ----------------------------------------------------------------------


class Tape(TorchDispatchMode):
    """Writes down every operation with the very tensors it worked on; replay does the same to them again.

    Like a CUDA graph it knows nothing of Python: a number that Python computed stays what it was.
    """

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, out))
        return out

    def replay(self):
        with torch.no_grad():
            for func, args, kwargs, out in self.operations:
                outs = out if isinstance(out, tuple | list) else (out,)
                if func._schema.is_mutable:
                    func(*args, **kwargs)
                elif not any(o.untyped_storage().data_ptr() in storages(args) for o in outs):  # no view
                    again = func(*args, **kwargs)
                    for old, new in zip(
                        outs, again if isinstance(again, tuple | list) else (again,), strict=True
                    ):
                        old.copy_(new)


def storages(args) -> set[int]:
    flat = [x for a in args for x in (a if isinstance(a, tuple | list) else (a,))]
    return {x.untyped_storage().data_ptr() for x in flat if isinstance(x, torch.Tensor)}


class Tapes:
    """A Recorder on the CPU. Recording changes nothing, as on CUDA: what the step did is undone."""

    def __init__(self, adam: TorchAdam, error: Exception | None = None):
        self.adam, self.error = adam, error
        self.recorded = self.replayed = self.asides = 0

    def aside(self, run):
        self.asides += 1
        run()

    def record(self, run):
        if self.error is not None:
            raise self.error
        state = [t for p in self.adam.parameters for t in (p.tensor, p.first, p.second)]
        before = [t.detach().clone() for t in state]
        with Tape() as tape:
            run()
        with torch.no_grad():
            for t, old in zip(state, before, strict=True):
                t.copy_(old)
        self.recorded += 1
        replay = tape.replay

        def counted():
            self.replayed += 1
            replay()

        tape.replay = counted
        return tape


def trajectory(seed: int, make, steps: int = 16) -> list[list[torch.Tensor]]:
    """Parameters and norms after each of some steps, of two sizes of batches, with pruning in between."""
    learner, adam = opened(seed)
    step, seen = make(learner, adam), []
    for i in range(steps):
        if i % 5 == 0:
            sparsity.prune_all(learner.stack, i / steps, "layer")
        x, labels = minibatch(100 + i, samples=5 if i % 3 == 2 else 9)
        norms = step(x, labels, 1 - i / steps, training.rate(i / steps))
        tensors = [t for kind in learner.stack.parameters.values() for t in kind]
        seen.append([t.detach().clone() for t in (*tensors, norms)])
    step.close()
    assert all(t.grad is None for t in tensors) or isinstance(step, EagerStep)
    return seen


@pytest.mark.parametrize("seed", range(4))
def test_a_recorded_step_is_the_step(seed):
    tapes = []

    def recorded(learner, adam):
        tapes.append(Tapes(adam))
        return GraphStep(learner, adam, tapes[0])

    expected, got = trajectory(seed, EagerStep), trajectory(seed, recorded)
    for i, (a, b) in enumerate(zip(expected, got, strict=True)):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True)), f"step {i}"
    # 11 batches of 9 samples and 5 of 5: of each three as they come, the rest from recordings of both halves.
    assert (tapes[0].asides, tapes[0].recorded, tapes[0].replayed) == (6, 4, 20)
    moved = [float((a - b).abs().sum()) for a, b in zip(got[8], got[-1], strict=True)]
    assert max(moved) > 0 and all(math.isfinite(m) for m in moved)


def baked_softness(self, spikes, labels):
    """TorchPass.differentiate with the softness as a number of Python."""
    self._softness = self._softness.clone()
    return _differentiate(self, spikes, labels)


_differentiate = TorchPass.differentiate


def test_a_number_of_python_in_a_recorded_step_is_noticed(monkeypatch):
    def recorded(learner, adam):
        return GraphStep(learner, adam, Tapes(adam))

    seed = 1  # has delays
    expected = trajectory(seed, EagerStep)
    monkeypatch.setattr(TorchPass, "differentiate", baked_softness)
    got = trajectory(seed, recorded)
    assert not all(torch.equal(x, y) for x, y in zip(expected[-1], got[-1], strict=True))


def test_a_step_that_cannot_be_recorded_is_said_once_and_goes_on():
    error = RuntimeError("CUDA error: operation not permitted\nwhen stream is capturing")

    def refused(learner, adam):
        return GraphStep(learner, adam, Tapes(adam, error))

    with pytest.warns(RuntimeWarning) as said:
        got = trajectory(0, refused)
    assert [str(w.message) for w in said if w.category is RuntimeWarning] == [
        "a training step of 9 samples runs command by command, since CUDA did not record it as a graph: CUDA "
        "error: operation not permitted when stream is capturing"
    ]
    for a, b in zip(trajectory(0, EagerStep), got, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUDA error: out of memory")]
)
def test_too_little_memory_to_record_is_too_little_memory(error):
    """The group is halved then, as it is for any lack of memory."""
    with pytest.raises(RuntimeError, match="out of memory"), warnings.catch_warnings():
        warnings.simplefilter("error")
        trajectory(0, lambda learner, adam: GraphStep(learner, adam, Tapes(adam, error)))


def test_a_training_of_recorded_steps_is_the_training(monkeypatch):
    """The whole way, with pruning, learned delays, a last batch that is filled up, and its own schedule."""
    monkeypatch.setattr(backends, "CPU", backends.TORCH)
    group = [arch(hidden=(h,), delay=2, density=0.4, generator=g) for h, g in ((5, "sobol"), (7, "lfsr"))]
    budget = replace(QUICK, epochs=5, batch_size=40)  # 40, 40 and 16 samples
    eager = training.train_group(group, VALUES, budget, 0, "cpu")
    tapes = []

    def recorded(learner, adam):
        tapes.append(Tapes(adam))
        return GraphStep(learner, adam, tapes[-1])

    monkeypatch.setattr(backends, "CPU", backends.TORCH._replace(step_of=recorded))
    again = training.train_group(group, VALUES, budget, 0, "cpu")
    assert [figures(r) for r in again] == [figures(r) for r in eager]
    assert all(r.failed is None for r in again) and tapes[0].replayed == 24 and tapes[0].recorded == 2


@pytest.mark.parametrize("seed", range(3))
def test_gradients_alone_are_the_first_half_of_a_recorded_step(seed):
    """Before it is recorded as they come, afterwards without an operation beside the graph; nothing moves."""
    (plain, _), (learner, adam) = opened(seed), opened(seed)
    step = GraphStep(learner, adam, Tapes(adam))
    for i in range(steps.WARM_UP + 2):
        x, labels = minibatch(50 + i)
        for ours, theirs in zip(learner.tensors, plain.tensors, strict=True):
            theirs.data.copy_(ours.data)
        before = [t.detach().clone() for t in learner.tensors]
        plain.gradients(x, labels, 0.3)
        step.gradients(x, labels, 0.3)
        assert step.recorder.asides == min(2 * i + 1, 2 * steps.WARM_UP + 1)
        assert step.recorder.replayed == max(0, 3 * (i - steps.WARM_UP))
        for ours, theirs, old in zip(learner.tensors, plain.tensors, before, strict=True):
            assert torch.equal(ours, old) and (ours.grad is None) == (theirs.grad is None)
            assert ours.grad is None or torch.equal(ours.grad, theirs.grad)
        step(x, labels, 0.3, 0.5)
    assert step.recorder.recorded == 2
    for i in range(steps.WARM_UP + 1):
        step(*minibatch(60 + i, samples=5), 0.3, 0.5)
    assert step.recorder.recorded == 4
    for samples in (9, 5):  # of either shape where they lie, whatever was last
        x, labels = minibatch(70, samples=samples)
        for ours, theirs in zip(learner.tensors, plain.tensors, strict=True):
            theirs.data.copy_(ours.data)
        plain.gradients(x, labels, 0.3)
        step.gradients(x, labels, 0.3)
        for ours, theirs in zip(learner.tensors, plain.tensors, strict=True):
            assert ours.grad is None or torch.equal(ours.grad, theirs.grad)


def test_a_training_that_regrows_never_differentiates_beside_its_graph(monkeypatch):
    """Regrowth at every second step. What the CPU gives with graphs and without is the same."""
    monkeypatch.setattr(backends, "CPU", backends.TORCH)
    monkeypatch.setattr(sparsity, "REGROW_EVERY", 2)
    group = [arch(hidden=(h,), delay=2, density=0.4) for h in (5, 7)]
    budget = replace(QUICK, epochs=6, batch_size=24)  # four batches of 24 samples an epoch
    regrown, regrow = [], sparsity.rewire
    monkeypatch.setattr(sparsity, "rewire", lambda *args: (regrown.append(args), regrow(*args)))
    eager = training.train_group(group, VALUES, budget, 0, "cpu")
    tapes, calls, differentiate = [], [], TorchPass.differentiate
    monkeypatch.setattr(
        TorchPass, "differentiate", lambda self, *args: (calls.append(1), differentiate(self, *args))[1]
    )

    def recorded(learner, adam):
        tapes.append(Tapes(adam))
        return GraphStep(learner, adam, tapes[-1])

    monkeypatch.setattr(backends, "CPU", backends.TORCH._replace(step_of=recorded))
    again = training.train_group(group, VALUES, budget, 0, "cpu")
    assert [figures(r) for r in again] == [figures(r) for r in eager] and len(regrown) >= 12
    # Three steps as they come, the gradients of a regrowth among them, and one recording.
    assert tapes[0].recorded == 2 and len(calls) == tapes[0].asides + 1 <= 6


def test_pruning_changes_the_masks_that_a_recorded_step_reads():
    stack = PopulationStack([arch(density=0.3)], 0, CPU)
    masks = [layer.buffers["keep"] for layer in stack.layers]
    sparsity.prune_all(stack, 1.0, "layer")
    for layer, mask in zip(stack.layers, masks, strict=True):
        assert layer.buffers["keep"].data_ptr() == mask.data_ptr() and not mask.all()


def test_a_cpu_takes_its_steps_as_they_come():
    assert type(backends.backend_on("cpu").step_of(*opened(0))) is EagerStep


# --- on a device ----------------------------------------------------------------------------------


def moved(seed: int, **changes) -> tuple[PopulationStack, PopulationStack]:
    """The same population on the CPU and on the GPU."""
    here, there = stacks(seed, **changes)
    for layer in there.layers:
        with torch.no_grad():
            layer.operations = backends.cuda().operations._replace(width_step=1)
            layer.to(torch.device("cuda"))
    there.scale = there.scale.detach().cuda().requires_grad_()
    return here, there


@on_gpu
@pytest.mark.parametrize("readout", ["membrane", "spikes"])
@pytest.mark.parametrize("seed", range(12))
def test_a_gpu_gives_the_scores_of_the_cpu(seed, readout, precision_put_back):
    torch.set_float32_matmul_precision("high")  # whatever the process has set
    here, there = moved(seed, readout=readout)
    levels, spikes, _ = batch(seed, "rate")
    expected = CpuPass(here, van_der_corput(8)).scores(levels)
    got = TorchPass(there).scores(torch.tensor(spikes).transpose(0, 1).float().cuda())
    assert torch.equal(got[0].cpu().double(), expected[0].double())
    assert torch.equal(got[1].cpu(), expected[1])


@on_gpu
@pytest.mark.parametrize("seed", range(12))
def test_a_gpu_gives_the_gradients_of_the_reference(seed, precision_put_back):
    torch.set_float32_matmul_precision("high")
    here, there = moved(seed)
    x, labels = minibatch(seed)
    TorchPass(here).gradients(x, labels, 0.5)
    TorchPass(there).gradients(x.cuda(), labels.cuda(), 0.5)
    for kind, tensors in here.parameters.items():
        for a, b in zip(tensors, there.parameters[kind], strict=True):
            expected = torch.zeros_like(a) if a.grad is None else a.grad
            got = torch.zeros_like(a) if b.grad is None else b.grad.cpu()
            assert float((got - expected).norm()) <= 1e-5 * float(expected.norm()) + 1e-6, kind


@on_gpu
@pytest.mark.parametrize("n", [64, 784, 2**16 - 1])
def test_tensor_cores_sum_as_exactly_as_they_must(n):
    """Sums up to 2^24 - 256 of signed counts with F = L = 8 bits, against whole numbers."""
    dice = np.random.default_rng(n)
    spikes = torch.tensor(dice.random((33, n)) < 0.9)
    counts = torch.tensor(dice.integers(-256, 257, (n, 70)))
    counts[:, 0], counts[:, 1] = 256, -255
    out = synapses._dot(spikes.cuda().to(torch.bfloat16), counts.cuda().to(torch.bfloat16))
    assert out.dtype == torch.float32
    assert torch.equal(out.cpu().long(), spikes.long() @ counts)


@on_gpu
def test_no_step_waits_for_the_gpu(recwarn):
    here, stack = moved(1)
    adam = TorchAdam(stack, dict.fromkeys(training.RATES, 0.01), 1.0)
    step = graph_step(TorchPass(stack), adam)
    assert isinstance(step, GraphStep)
    x, labels = (t.cuda() for t in minibatch(1))
    for _ in range(steps.WARM_UP + 1):
        step(x, labels, 0.5, 1.0)
    eager = EagerStep(TorchPass(stack), adam)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(x, labels, 0.5, 1.0)
        eager(x, labels, 0.5, 1.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert not [w for w in recwarn if w.category is RuntimeWarning], "it was not recorded"


@on_gpu
def test_a_gpu_trains_the_same_with_and_without_graphs(monkeypatch, recwarn):
    group = [arch(hidden=(h,), delay=2, density=0.4, generator=g) for h, g in ((5, "sobol"), (7, "lfsr"))]
    budget = replace(QUICK, epochs=5, batch_size=40)
    graphs = training.train_group(group, VALUES, budget, 0, "cuda")
    assert not [w for w in recwarn if w.category is RuntimeWarning], "it was not recorded"
    without = backends.cuda()._replace(step_of=EagerStep)
    monkeypatch.setattr(backends, "cuda", lambda: without)
    eager = training.train_group(group, VALUES, budget, 0, "cuda")
    assert [figures(r) for r in graphs] == [figures(r) for r in eager]
    assert all(r.failed is None for r in graphs)


@on_gpu
def test_thousands_of_candidates_train_at_once_within_the_memory_predicted():
    """P = 4,096 networks 12-8-3: one group, one graph."""
    kinds = [replace(arch(length=2**i, hidden=(8,)), word=8 + j) for i in range(8) for j in range(8)]
    many = [replace(a, densities=((k + 1) / 64, 1.0)) for a in kinds for k in range(64)]
    (group,) = grouping.plan_groups(many, VALUES, QUICK, "cuda")
    assert len(group) == 4096
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_reserved()
    results = training.train_group(group, VALUES, QUICK, 0, "cuda")
    peak = torch.cuda.max_memory_reserved() - before
    assert len(results) == 4096 and sum(r.failed is None for r in results) > 2048
    predicted = grouping.memory_bytes(group, QUICK.batch_size, "cuda")
    assert predicted / 4 < peak < predicted, (peak, predicted)


def test_the_population_of_these_tests_has_everything():
    """Delays, both generators and several models, or the comparisons above would show little."""
    members = [a for seed in range(4) for a in population(seed)]
    assert {g for a in members for g in a.generators} == {"sobol", "lfsr"}
    assert any(max(a.delay_ranges) for a in members) and len({n for a in members for n in a.neuron_types}) > 3


# --- memory ---------------------------------------------------------------------------------------


class Live(TorchDispatchMode):
    """Bytes of the tensors that operations made and that are still there, and the most that there were."""

    def __init__(self):
        super().__init__()
        self.live, self.peak = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is not None and storage._cdata not in self.live:
                self.live[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.live.pop, storage._cdata, None)
        self.peak = max(self.peak, sum(self.live.values()))
        return out


def peak(group: list, samples: int, operations: Operations = REFERENCE) -> int:
    """The most bytes that training a group takes, step by step, inputs included."""
    with Live() as live:
        stack = PopulationStack(group, 0, CPU, operations=operations)
        adam = TorchAdam(stack, dict.fromkeys(training.RATES, 0.01), 1.0, operations.adam)
        step = EagerStep(TorchPass(stack), adam)
        x = (torch.rand(group[0].timesteps, samples, group[0].n_inputs) < 0.5).float()
        for _ in range(2):
            step(x, torch.zeros(samples, dtype=torch.int64), 0.5, 1.0)
    return live.peak


WITHIN = {
    "lif": dict(), "izhikevich": dict(neuron="izhikevich"), "deep": dict(hidden=(40,) * 6),
    "lfsr": dict(generator="lfsr"), "delays": dict(delay=3), "both": dict(delay=3, generator="lfsr"),
    "spikes": dict(readout="spikes", neuron="homeostatic_lif"),
}  # fmt: skip


def compare_with_prediction(kind: str, device: str, monkeypatch, operations: Operations = REFERENCE) -> None:
    """All that is there at once was predicted, and is a fair part of it; the reference of torch needs less
    for most models than for the one that it is predicted for."""
    least = {"cpu": 0.25, "cuda": 0.5}[device]
    monkeypatch.setattr(backends, "CPU", backends.TORCH)
    monkeypatch.setattr(grouping, "EVALUATED", 1)  # what matters is training
    group = [arch(**({"hidden": (40,)} | WITHIN[kind]))] * 2
    for samples in (32, 64) if device == "cpu" else (32,):
        found = peak(group, samples, operations)
        predicted = grouping.memory_bytes(group, samples, device)
        assert least * predicted < found < predicted, found / predicted


@pytest.mark.parametrize("kind", WITHIN)
def test_what_the_reference_takes_was_predicted(kind, monkeypatch):
    compare_with_prediction(kind, "cpu", monkeypatch)


def test_thousands_of_small_networks_are_planned_as_one_group_of_a_large_gpu(monkeypatch):
    """P = 4,096 networks 12-8-3 in batches of 32, on planned devices of 24 GiB, 256 MiB and 64 MiB."""
    kinds = [replace(arch(length=2**i), word=8 + j) for i in range(8) for j in range(8)]
    many = [replace(a, densities=((k + 1) / 64, 1.0)) for a in kinds for k in range(64)]
    groups = []
    for gib in (24, 1 / 4, 1 / 16):
        monkeypatch.setattr(grouping, "_room_bytes", lambda budget, device, room=gib: room * 2**30)
        started = time.process_time()
        groups.append(grouping.plan_groups(many, VALUES, QUICK, "cuda"))
        assert time.process_time() - started < 5
        for group in groups[-1]:
            assert grouping.memory_bytes(group, QUICK.batch_size, "cuda") <= gib * 2**30
        assert sum(map(len, groups[-1])) == 4096
    assert len(groups[0]) == 1 < len(groups[1]) < len(groups[2])


def test_memory_grows_with_all_that_takes_it():
    base = grouping.memory_bytes([arch(hidden=(64,))], 512, "cuda")
    for more in (
        [arch(hidden=(64,))] * 2, [arch(hidden=(128,))], [arch(hidden=(64,), generator="lfsr")],
        [arch(hidden=(64,), delay=2)], [replace(arch(hidden=(64,)), timesteps=16)],
    ):  # fmt: skip
        assert grouping.memory_bytes(more, 512, "cuda") > base
    assert grouping.memory_bytes([arch(hidden=(64,))], 1024, "cuda") > base
