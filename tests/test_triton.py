"""scnas.snn.triton_kernels against the reference in torch: spikes with ==, gradients to 1e-5.

On a machine without a GPU the kernels run in Triton's interpreter.
"""

import os
import subprocess
import sys

import pytest
import torch

CUDA = torch.cuda.is_available()
if not CUDA:
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined
pytest.importorskip("triton", reason="triton is not installed")

import numpy as np  # noqa: E402
from test_neurons import constants, random_case  # noqa: E402
from test_torch_pass import WITHIN, compare_with_prediction, minibatch, no_waiting, opened  # noqa: E402

from scnas.contract import NEURONS  # noqa: E402
from scnas.snn import neurons, population, synapses, triton_kernels  # noqa: E402
from scnas.snn.neurons import exact_dtype  # noqa: E402
from scnas.snn.torch_pass import EagerStep  # noqa: E402

DEVICE = "cuda" if CUDA else "cpu"
TOLERANCE = 1e-5  # of the norm of a gradient: float32 here, the float type of the neuron there
CASES = [(16, 8, True), (8, 4, True), (16, 8, False), (24, 12, False)]


def case(neuron, word, fraction, powers_of_two, batch=3, candidates=4, timesteps=9, n=70, seed=0):
    """Constants with requires_grad and currents [P, T, B, N] float32 up to their ends."""
    dice = np.random.default_rng([seed, word, NEURONS.index(neuron)])
    layers, currents = random_case(dice, neuron, word, fraction, powers_of_two, candidates, timesteps, n)
    dtype = exact_dtype(neuron, word, fraction, powers_of_two)
    c = constants(layers, word, fraction, timesteps).to(dtype)
    c = c._replace(scale=torch.full_like(c.scale, 2.0 ** (word - 3)))
    c = neurons.Constants(*(value.to(DEVICE) for value in c))
    given = torch.tensor(currents, dtype=torch.float32, device=DEVICE)[:, :, None].repeat(1, 1, batch, 1)
    return c, given * torch.tensor([1, -1, 0.5], device=DEVICE).view(1, 1, 3, 1).floor()


def results(scan, c, current):
    """Spikes, and gradients to current, threshold, gain_k and leak_k of a random pull on them."""
    leaves = [t.detach().clone().requires_grad_() for t in (current, c.threshold, c.gain_k, c.leak_k)]
    spikes = scan(leaves[0], c._replace(threshold=leaves[1], gain_k=leaves[2], leak_k=leaves[3]))
    pull = torch.randn(spikes.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    (spikes * pull).sum().backward()
    return spikes.detach(), [torch.zeros_like(t) if t.grad is None else t.grad for t in leaves]


def all_of(current):
    """Every candidate is a member."""
    return torch.arange(len(current), device=DEVICE)


def compare(neuron, word, fraction, powers_of_two, module=triton_kernels):
    """Spikes that differ, the largest relative error of a gradient, spikes, and gradients not zero."""
    c, current = case(neuron, word, fraction, powers_of_two)
    pauses = bool((c.refractory > 0).any())
    reference = neurons.scan_reference
    theirs, expected = results(
        lambda x, k: reference(x, [(neuron, all_of(x), k)], fraction, pauses), c, current
    )
    ours, got = results(lambda x, k: module.scan(x, [(neuron, all_of(x), k)], fraction, pauses), c, current)
    errors = [
        float((a.double() - b.double()).norm() / (b.double().norm() + 1e-30))
        for a, b in zip(got, expected, strict=True)
    ]
    return int((ours != theirs).sum()), max(errors), int(theirs.sum()), sum(int((g != 0).sum()) for g in got)


@pytest.mark.parametrize("word, fraction, powers_of_two", CASES)
@pytest.mark.parametrize("neuron", NEURONS)
def test_spikes_are_equal_and_gradients_agree(neuron, word, fraction, powers_of_two):
    wrong, error, fired, moved = compare(neuron, word, fraction, powers_of_two)
    assert wrong == 0 and error <= TOLERANCE
    assert fired > 100 and moved > 100, "what is silent agrees with anything"


def test_blocks_lie_along_the_axis_of_the_grid_that_is_long(monkeypatch):
    """CUDA allows 2^31 - 1 along the first axis and 65,535 along the others."""
    grids = []

    class Launched:
        def __init__(self, kernel):
            self.kernel = kernel

        def __getitem__(self, grid):
            grids.append(grid)
            return self.kernel[grid]

    for name in ("_forward", "_backward"):
        monkeypatch.setattr(triton_kernels, name, Launched(getattr(triton_kernels, name)))
    c, current = case("lif", 16, 8, True, candidates=2, n=300)
    results(lambda x, k: triton_kernels.scan(x, [("lif", all_of(x), k)], 8, True), c, current)
    assert grids == [(4, 2)] * 2  # 3 samples of 300 neurons in blocks of 256, 2 candidates


def test_without_a_refractory_period_too():
    c, current = case("lif", 16, 8, True)
    c = c._replace(refractory=torch.zeros_like(c.refractory))
    ours, got = results(lambda x, k: triton_kernels.scan(x, [("lif", all_of(x), k)], 8, False), c, current)
    reference = neurons.scan_reference
    theirs, expected = results(lambda x, k: reference(x, [("lif", all_of(x), k)], 8, False), c, current)
    assert torch.equal(ours, theirs) and ours.sum() > 100
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def mixed(beyond=1.0, **changes):
    """Parts of a stack of all models, [(model, members, constants)], and currents [P, T, B, N]: members of a
    model lie apart, and the last neuron is padding. beyond: the currents reach this share of the word."""
    parts, currents = [], []
    for place, neuron in enumerate(NEURONS):
        c, current = case(neuron, 16, 8, True, candidates=2, n=17, seed=place)
        c = c._replace(
            threshold=c.threshold.clone(), **{k: torch.full_like(c.scale, v) for k, v in changes.items()}
        )
        c.threshold[:, :, -1] = torch.inf
        parts.append((neuron, torch.tensor([place, place + len(NEURONS)], device=DEVICE), c))
        currents.append(current * beyond)
    order = torch.argsort(torch.cat([members for _, members, _ in parts]))
    return parts, torch.cat(currents)[order].contiguous()


def of_parts(scan, parts, current):
    """Spikes, and gradients to current and to what every part learns."""
    learned = [
        [t.detach().clone().requires_grad_() for t in (c.threshold, c.gain_k, c.leak_k)] for _, _, c in parts
    ]
    current = current.detach().requires_grad_()
    own = [
        (name, members, c._replace(threshold=a, gain_k=b, leak_k=k))
        for (name, members, c), (a, b, k) in zip(parts, learned, strict=True)
    ]
    spikes = scan(current, own, 8, False)
    pull = torch.randn(spikes.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    leaves = [current, *sum(learned, [])]
    found = torch.autograd.grad((spikes * pull).sum(), leaves, allow_unused=True)
    return spikes.detach(), [
        torch.zeros_like(t) if g is None else g for t, g in zip(leaves, found, strict=True)
    ]


@pytest.mark.parametrize("layout", ["candidates apart", "candidates side by side", "neurons apart"])
def test_a_stack_of_all_models_is_scanned_where_it_lies(layout):
    """Currents as the first product leaves them, [T, B, P, N], as the others do, and as none does."""
    parts, current = mixed(beyond=1.5, refractory=0)
    order = {
        "candidates apart": (0, 1, 2, 3),
        "candidates side by side": (1, 2, 0, 3),
        "neurons apart": (3, 0, 1, 2),
    }
    order = order[layout]
    back = [order.index(axis) for axis in range(4)]
    given = current.permute(order).contiguous().permute(back)
    ours, got = of_parts(triton_kernels.scan, parts, given)
    theirs, expected = of_parts(neurons.scan_reference, parts, current)
    assert torch.equal(ours, theirs) and ours.sum() > 100 and ours[..., -1].sum() == 0
    for a, b in zip(got, expected, strict=True):
        assert torch.isfinite(a).all() and float((a - b).norm()) <= TOLERANCE * float(b.norm())
    beyond = (current >= 2**15) | (current < -(2**15))
    assert beyond.any() and (got[0][beyond] == 0).all() and (got[0][..., -1] == 0).all()
    if layout == "candidates side by side":
        assert got[0].stride() == given.stride()  # the gradient goes back into one product


def test_without_a_gradient_nothing_is_kept_for_one():
    parts, current = mixed(refractory=0)
    with torch.no_grad():
        ours = triton_kernels.scan(current, parts, 8, False)
    assert torch.equal(ours, neurons.scan_reference(current, parts, 8, False)) and ours.sum() > 100


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shared", [True, False])
def test_streams_are_filled_as_the_reference_does(shared, dtype, monkeypatch):
    dice = np.random.default_rng(0)
    integers = torch.tensor(dice.integers(-256, 257, (3, 5, 70)), dtype=torch.float32, device=DEVICE)
    integers[0, 0, :4] = torch.tensor([0.0, 256, -256, float("nan")])
    tables = torch.tensor(dice.integers(0, 257, (3, 6, 257)), dtype=torch.float32, device=DEVICE)
    expected = synapses.stream_matrix(integers.cpu(), tables.cpu(), dtype, shared)
    monkeypatch.setattr(synapses, "_fill_on", lambda device: triton_kernels.fill)
    ours = synapses.stream_matrix(integers, tables, dtype, shared)
    assert ours.dtype == dtype and ours.stride() == expected.stride()
    assert torch.equal(ours.cpu().nan_to_num(999), expected.nan_to_num(999)) and expected.isnan().sum() == 6
    # By definition, one synapse at a time.
    for p, i, j in ((0, 0, 1), (0, 0, 2), (1, 2, 3), (2, 4, 69)):
        w = int(integers[p, i, j])
        assert ours[p, :, i, j].tolist() == [np.sign(w) * float(row[abs(w)]) for row in tables[p]]


@pytest.mark.skipif(CUDA, reason="what the kernels keep is the same on a GPU, where its memory is measured")
@pytest.mark.parametrize("kind", WITHIN)
def test_what_the_kernels_keep_for_the_way_back_was_predicted(kind, monkeypatch):
    monkeypatch.setattr(population, "scan_on", lambda device: triton_kernels.scan)
    monkeypatch.setattr(synapses, "_fill_on", lambda device: triton_kernels.fill)
    compare_with_prediction(kind, "cuda", monkeypatch)


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from scnas.contract import NEURONS
from scnas.snn import triton_kernels as k

def build(kernel, pointers, **fixed):
    # A stride that needs 64 bits, one that needs 32, and one that is 1, which becomes part of the kernel.
    scalars = {"one": "fp32", "c14": "fp32", "steep": "fp32", "height": "fp32", "per_candidate": "i64"}
    fixed |= {"per_sample": 1} if "per_sample" in kernel.arg_names else {}
    names = kernel.arg_names
    kinds = {n: "constexpr" if n in fixed else pointers.get(n, scalars.get(n, "i32")) for n in names}
    places = {(names.index(n),): v for n, v in fixed.items()}
    source = ASTSource(fn=kernel, signature=kinds, constexprs=places)
    print(kernel.__name__, "ptx" in triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm)

numbers = dict.fromkeys(("current", "spikes", "margin", "before", "gradient", "to_current", "to_threshold",
                         "to_gain", "to_leak", "integers", "tables"), "*fp32")
for i, model in enumerate(NEURONS):
    own = "*fp64" if i % 2 else "*fp32"
    own = numbers | dict(threshold=own, table=own, noise=own, members="*i64", flags="*u8")
    kind = dict(LEAKS=k._leaks(model), IZHIKEVICH=model == "izhikevich", BLOCK=k.BLOCK)
    build(k._forward, own, **kind, NOISY=model == "stochastic_lif", ADAPTS=model == "homeostatic_lif",
          REFRACTORY=i % 2 == 0, LEARNS=i != 1)
    build(k._backward, own, **kind)
build(k._streams, numbers | dict(out="*bf16"), BLOCK=k.BLOCK)
"""


def test_the_kernels_compile_for_a_gpu_that_is_not_here():
    """The interpreter takes more than the compiler does. Compute capability 9.0, that of an H100 or H200."""
    plain = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True, env=plain)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split().count("True") == 11


class Unlaunched:
    """A kernel that is not run: what matters is what is done around it."""

    def __getitem__(self, grid):
        return lambda *args, **settings: None


@pytest.mark.parametrize("seed", range(4))
def test_a_step_around_the_kernels_waits_for_nothing(seed, monkeypatch):
    monkeypatch.setattr(population, "scan_on", lambda device: triton_kernels.scan)
    monkeypatch.setattr(synapses, "_fill_on", lambda device: triton_kernels.fill)
    for name in ("_forward", "_backward", "_streams"):
        monkeypatch.setattr(triton_kernels, name, Unlaunched())
    step = EagerStep(*opened(seed))
    x, labels = minibatch(seed)
    step(x, labels, 0.7, 1.0)  # what is made once
    with no_waiting():
        step(x, labels, 0.3, 0.5)


@pytest.mark.parametrize("seed", range(3))
def test_a_pass_with_kernels_is_the_pass_without(seed, monkeypatch):
    """Scores and spikes of whole networks with ==, and gradients."""
    (reference, _), (ours, _) = opened(seed), opened(seed)
    x, labels = minibatch(seed, samples=5)
    expected = reference.scores(x)
    losses = reference.gradients(x, labels, 0.5)
    monkeypatch.setattr(population, "scan_on", lambda device: triton_kernels.scan)
    monkeypatch.setattr(synapses, "_fill_on", lambda device: triton_kernels.fill)
    scores, counts = ours.scores(x)
    assert torch.equal(scores, expected[0]) and (counts == expected[1]).all()
    assert (counts.sum() > 0) == (len(ours.stack.layers) > 1)  # the last layer has no neurons
    assert torch.equal(ours.gradients(x, labels, 0.5), losses)
    for kind, tensors in reference.stack.parameters.items():
        for a, b in zip(tensors, ours.stack.parameters[kind], strict=True):
            theirs, mine = (torch.zeros_like(t) if t.grad is None else t.grad for t in (a, b))
            assert float((mine - theirs).norm()) <= TOLERANCE * float(theirs.norm()) + 1e-6, kind
