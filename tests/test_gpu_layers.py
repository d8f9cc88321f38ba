"""scnas.snn.gpu.layers against the references in torch: spikes with ==, gradients to 1e-5."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from interpreter import CUDA, DEVICE, TOLERANCE, Unlaunched, on_kernels
from test_neurons import constants, random_case
from test_torch_pass import WITHIN, compare_with_prediction, minibatch, no_waiting, opened
from test_training import arch

from scnas.contract import NEURONS
from scnas.snn import gpu, neurons, population, synapses
from scnas.snn.gpu import layers
from scnas.snn.neurons import exact_dtype
from scnas.snn.torch_pass import EagerStep

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


def compare(neuron, word, fraction, powers_of_two, module=layers):
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


def test_a_recovery_that_is_clamped_passes_no_gradient(monkeypatch):
    """Every spike adds as much as the word holds: the second one is beyond it."""
    given, fixed = case("izhikevich", 8, 4, True), dict(a_k=2.0, b_k=3.0, gain_k=64.0, refractory=0.0)
    c = given[0]._replace(
        d_k=given[0].bound - 1, threshold=torch.full_like(given[0].threshold, 1.0),
        **{k: torch.full_like(given[0].bound, v) for k, v in fixed.items()},
    )  # fmt: skip
    sides = [
        results(lambda x, k, run=run: run(x, [("izhikevich", all_of(x), k)], 4, False), c, given[1])
        for run in (gpu.scan, neurons.scan_reference)
    ]
    assert_alike(*sides)
    seen, kept = [], layers._Kept
    monkeypatch.setattr(layers, "_Kept", lambda *args: seen.append(kept(*args)) or seen[-1])
    results(lambda x, k: gpu.scan(x, [("izhikevich", all_of(x), k)], 4, False), c, given[1])
    steady = (seen[0].membranes & layers._STEADY.value) != 0
    assert steady.any() and not steady.all()


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
        monkeypatch.setattr(layers, name, Launched(getattr(layers, name)))
    c, current = case("lif", 16, 8, True, candidates=2, n=300)
    results(lambda x, k: gpu.scan(x, [("lif", all_of(x), k)], 8, True), c, current)
    assert grids == [(4, 2)] * 2  # 3 samples of 300 neurons in blocks of 256, 2 candidates


def test_without_a_refractory_period_too():
    c, current = case("lif", 16, 8, True)
    c = c._replace(refractory=torch.zeros_like(c.refractory))
    ours, got = results(lambda x, k: gpu.scan(x, [("lif", all_of(x), k)], 8, False), c, current)
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
    ours, got = of_parts(gpu.scan, parts, given)
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
        ours = gpu.scan(current, parts, 8, False)
    assert torch.equal(ours, neurons.scan_reference(current, parts, 8, False)) and ours.sum() > 100


# --- counts and scan in one -----------------------------------------------------------------------


def counted(
    neuron, word, fraction, powers, span=0, shared=False, steps=9, batch=35, inputs=21, n=37, most=16
):  # fmt: skip
    """What a fused layer takes: constants of 3 candidates, and the arguments of synapses.Synapses, with
    entries up to `most` ones of 16 and the last input and neuron padding."""
    c, _ = case(neuron, word, fraction, powers, candidates=3, timesteps=steps, n=n)
    c = c._replace(refractory=torch.zeros_like(c.refractory), threshold=c.threshold.clone())
    c.threshold[:, :, -1] = torch.inf
    dice = torch.Generator().manual_seed(span)

    def rand(*shape):
        return torch.rand(shape, generator=dice)

    spikes = (rand(1 if shared else 3, steps, batch, inputs) < 0.4).float()
    matrix = torch.round((rand(3, 1, inputs, n) * 2 - 1) * most) * 2**fraction / 16
    spikes[..., -1], matrix[:, :, -1], matrix[..., -1] = 0, 0, 0
    limits = torch.tensor([span, max(0.0, span - 1), 0.0]).view(3, 1, 1)
    positions = torch.minimum(rand(3, inputs, n) * span, limits) if span else None
    weights, widths = rand(3, inputs, n) * 2 - 1, rand(3, 1, 1) + 0.5
    given = spikes, weights, positions, matrix, limits, widths, 2.0**fraction, span
    return c, tuple(x.to(DEVICE) if isinstance(x, torch.Tensor) else x for x in given)


def of_layer(run, c, given):
    """Spikes, and gradients to spikes, weights and positions, threshold, gain_k and leak_k, of a pull."""
    leaves = [None if x is None else x.clone().requires_grad_() for x in given[:3]]
    if len(given[0]) == 1:
        leaves[0] = given[0]  # the input is given
    learned = [x.clone().requires_grad_() for x in (c.threshold, c.gain_k, c.leak_k)]
    own = c._replace(threshold=learned[0], gain_k=learned[1], leak_k=learned[2])
    out = run((*leaves, *given[3:]), own)
    pull = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    leaves = [x for x in (*leaves, *learned) if x is not None and x.requires_grad]
    found = torch.autograd.grad((out * pull).sum(), leaves, allow_unused=True)
    return out.detach(), [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)]


def fused_and_apart(neuron, c, given, fraction):
    """The results of the fused kernel, and of the reference: a product, and a scan in torch."""
    bf16 = (*given[:3], given[3].to(torch.bfloat16), *given[4:])
    members = all_of(given[3])
    return of_layer(lambda x, k: gpu.layer(*x, [(neuron, members, k)]), c, bf16), of_layer(
        lambda x, k: neurons.scan_reference(
            synapses.Synapses.apply(*x), [(neuron, members, k)], fraction, False
        ),
        c,
        given,
    )


def assert_alike(ours, theirs, fired=50):
    (spikes, got), (expected_spikes, expected) = ours, theirs
    assert torch.equal(spikes, expected_spikes) and spikes.sum() > fired
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        error, norm = float((a.double() - b.double()).norm()), float(b.double().norm())
        assert error <= TOLERANCE * norm, (error / norm, [tuple(x.shape) for x in (a, b)])


@pytest.mark.parametrize(
    "span, shared, word, fraction, powers_of_two",
    [(0, False, *numbers) for numbers in CASES] + [(0, True, *CASES[0]), (3, False, *CASES[1])],
)
@pytest.mark.parametrize("neuron", NEURONS)
def test_a_fused_layer_is_a_product_and_a_scan(neuron, span, shared, word, fraction, powers_of_two):
    """35 samples: two programs of 32, or three of 16, the last not full. 21 inputs and 37 neurons: neither
    fills a tile."""
    most = 64 if word == 8 else 16
    c, given = counted(neuron, word, fraction, powers_of_two, span, shared, steps=6, most=most)
    ours, theirs = fused_and_apart(neuron, c, given, fraction)
    assert_alike(ours, theirs)
    current = synapses.Synapses.apply(*given)
    beyond = (current < -c.bound[:, None]) | (current >= c.bound[:, None])
    assert word != 8 or beyond.any(), "no current is clamped"
    assert sum(int((g != 0).any()) for g in ours[1]) >= 3


@pytest.mark.parametrize(
    "sizes",
    [dict(steps=1), dict(batch=1), dict(batch=32, inputs=16, n=64), dict(steps=2, batch=64, inputs=64, n=130),
     dict(steps=2, batch=5, inputs=256, n=70), dict(steps=3, span=5), dict(inputs=1, n=2, batch=40),
     dict(steps=4, inputs=200, n=50, span=2, batch=5)],
)  # fmt: skip
@pytest.mark.parametrize("neuron", ["homeostatic_lif", "izhikevich"])
def test_a_fused_layer_of_any_size(neuron, sizes):
    """One step, one sample, whole tiles and several of them, the widest, a delay beyond the last step."""
    c, given = counted(neuron, 16, 8, True, **sizes)
    assert_alike(*fused_and_apart(neuron, c, given, 8), fired=0)


@pytest.mark.parametrize("span", [0, 2])
def test_a_fused_layer_keeps_all_bits_of_a_sum(span):
    """256 ones of either sign, of 256 inputs: counts beyond what bfloat16 or float16 could hold."""
    c, given = counted("lif", 24, 12, False, span, inputs=256, n=20, most=256, batch=8)
    current = synapses.Synapses.apply(*given)
    assert current.abs().max() > 65536 and (current % 512 != 0).any()
    assert_alike(*fused_and_apart("lif", c, given, 12))


def test_without_a_gradient_a_fused_layer_writes_spikes_alone(monkeypatch):
    c, given = counted("homeostatic_lif", 16, 8, True)
    seen, kept = [], layers._Kept
    monkeypatch.setattr(layers, "_Kept", lambda *args: seen.append(kept(*args)) or seen[-1])
    given[1].requires_grad_()
    bf16 = (*given[:3], given[3].to(torch.bfloat16), *given[4:])
    with torch.no_grad():
        ours = gpu.layer(*bf16, [("homeostatic_lif", all_of(given[3]), c)])
    assert torch.equal(ours, fused_and_apart("homeostatic_lif", c, given, 8)[1][0])
    assert seen[0].membranes.numel() == seen[0].parts[0][2].numel() == 1


@pytest.mark.parametrize("neuron", NEURONS)
def test_what_a_step_of_a_neuron_keeps(neuron):
    """Of 3 candidates, 9 steps, 35 samples and 37 neurons, besides the spike, which the next layer keeps: the
    membrane, 4 bytes; the adaptation, 4 more; and the current, where it was written."""
    c, given = counted(neuron, 16, 8, True)
    c.gain_k.requires_grad_()
    parts, count = [(neuron, all_of(given[3]), c)], 3 * 9 * 35 * 37
    current = synapses.Synapses.apply(*given)
    bf16 = (*given[:3], given[3].to(torch.bfloat16), *given[4:])
    for run, more in (
        (lambda: gpu.scan(current, parts, 8, False), 4),
        (lambda: gpu.layer(*bf16, parts), 0),
    ):
        found = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, to=found: to.append(t), lambda t: t):
            run()
        each = sum(t.element_size() for t in found if t.numel() == count)
        assert each == more + (8 if neuron == "homeostatic_lif" else 4)


def test_which_layers_are_fused_worked_by_hand():
    """Of a sample and step in bytes. 64 to 64: 4 * 64 = 256 against 64 * 12 + 64 * 8 = 1,280. 64 to 8 with
    the input of all: 256 against 96. 256 to 256: four blocks, 4,096 against 5,120; with delays to 4 eight
    blocks of 32, 4 * 256 * 8 * 5 + 2 * 256 * 256 * 5 / 32 = 61,440 against 256 * 76 + 256 * 32 = 27,648; 64
    to 64 so: 4 * 64 * 5 + 2 * 64 * 64 * 5 / 32 = 2,560 against 64 * 108 = 6,912."""

    def fuses(*sizes, generator="sobol", exact=True):
        return synapses.fuses((generator, exact), *sizes)

    assert fuses(64, 64, 0, False) and fuses(64, 64, 0, True) and fuses(64, 64, 4, True)
    assert not fuses(64, 8, 0, True) and fuses(64, 8, 0, False)
    assert fuses(256, 256, 0, False) and not fuses(256, 256, 0, True) and not fuses(256, 256, 4, False)
    assert fuses(64, 64, 4, False) and fuses(256, 1, 0, False)
    assert not fuses(257, 64, 0, False) and not fuses(784, 128, 0, True)
    assert not fuses(64, 64, 0, False, generator="lfsr") and not fuses(64, 64, 0, False, exact=False)


def test_what_is_fused_in_a_stack(monkeypatch):
    """Sobol streams of at most 256 clocks in layers that fire; their neighbours in the stack are not."""
    seen = []
    on_kernels(monkeypatch)

    fused = gpu.layer

    def layer(*args):
        seen.append(args[3])
        return fused(*args)

    monkeypatch.setattr(gpu, "layer", layer)
    kinds = [dict(length=16), dict(length=512, fraction=12, word=20), dict(generator="lfsr")]
    group = [arch(**({"hidden": (20,), "fraction": 12, "word": 20} | kind)) for kind in kinds] * 2
    stack, plain = (population.PopulationStack(group, 0, torch.device(DEVICE)) for _ in range(2))
    x = (torch.rand(8, 5, 12, generator=torch.Generator().manual_seed(0)) < 0.5).float().to(DEVICE)
    scores, fired = stack.scores(x)
    assert [tuple(m.shape) for m in seen] == [(2, 1, 12, 20)] and seen[0].dtype == torch.bfloat16
    monkeypatch.undo()
    expected, theirs = plain.scores(x)
    assert torch.equal(scores, expected) and torch.equal(fired[0], theirs[0]) and fired[0].sum() > 100


# --- streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shared", [True, False])
def test_streams_are_filled_as_the_reference_does(shared, dtype, monkeypatch):
    dice = np.random.default_rng(0)
    integers = torch.tensor(dice.integers(-256, 257, (3, 5, 70)), dtype=torch.float32, device=DEVICE)
    integers[0, 0, :4] = torch.tensor([0.0, 256, -256, float("nan")])
    tables = torch.tensor(dice.integers(0, 257, (3, 6, 257)), dtype=torch.float32, device=DEVICE)
    expected = synapses.stream_matrix(integers.cpu(), tables.cpu(), dtype, shared)
    on_kernels(monkeypatch)
    ours = synapses.stream_matrix(integers, tables, dtype, shared)
    assert ours.dtype == dtype and ours.stride() == expected.stride()
    assert torch.equal(ours.cpu().nan_to_num(999), expected.nan_to_num(999)) and expected.isnan().sum() == 6
    # By definition, one synapse at a time.
    for p, i, j in ((0, 0, 1), (0, 0, 2), (1, 2, 3), (2, 4, 69)):
        w = int(integers[p, i, j])
        assert ours[p, :, i, j].tolist() == [np.sign(w) * float(row[abs(w)]) for row in tables[p]]


@pytest.mark.skipif(CUDA, reason="what the kernels take is the same on a GPU, where its memory is measured")
@pytest.mark.parametrize("kind", WITHIN)
def test_what_the_kernels_take_was_predicted(kind, monkeypatch):
    on_kernels(monkeypatch)
    compare_with_prediction(kind, "cuda", monkeypatch)


COMPILE = """
import math, re, subprocess, tempfile
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from scnas.contract import NEURONS
from scnas.snn.gpu import layers as k
from scnas.snn.synapses import ROWS, columns_of, tile

def build(kernel, pointers, num_warps=4, **fixed):
    # A stride that needs 64 bits, one that needs 32, and one that is 1, which becomes part of the kernel.
    scalars = {"unit": "fp32", "c14": "fp32", "steep": "fp32", "height": "fp32", "per_candidate": "i64"}
    fixed |= {"per_sample": 1} if "per_sample" in kernel.arg_names else {}
    names = kernel.arg_names
    kinds = {n: "constexpr" if n in fixed else pointers.get(n, scalars.get(n, "i32")) for n in names}
    places = {(names.index(n),): v for n, v in fixed.items()}
    whole = {(names.index(n),): [["tt.divisibility", 16]] for n in names if kinds[n][0] == "*"}
    source = ASTSource(fn=kernel, signature=kinds, constexprs=places, attrs=whole)
    options = dict(num_warps=num_warps, num_stages=2 if kernel is k._layer else 3)
    built = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(built.asm["cubin"])
        file.flush()
        tool = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        said = subprocess.run(tool, capture_output=True, text=True, check=True).stdout
    registers, spilled = re.search(r"REG:(\\d+) STACK:(\\d+)", said).groups()
    multiplied = "mma.sync" in built.asm["ptx"] and "bf16.bf16" in built.asm["ptx"]
    divided = bool(re.search(r"(div|rcp)\\.\\w+\\.f(32|64)", built.asm["ptx"]))
    print(kernel.__name__, registers, spilled, built.metadata.shared, multiplied, divided)

numbers = dict.fromkeys(("current", "source", "spikes", "adaptations", "gradient", "to_current",
                         "to_threshold", "to_gain", "to_leak", "integers", "tables"), "*fp32")
for i, model in enumerate(NEURONS):
    own = "*fp64" if i % 2 or model == "izhikevich" else "*fp32"
    own = numbers | dict(threshold=own, table=own, noise=own, members="*i64", membranes="*i32",
                         matrices="*bf16")
    kind, noisy = k._kinds(model), dict(NOISY=model == "stochastic_lif")
    build(k._forward, own, **kind, **noisy, REFRACTORY=i % 2 == 0, LEARNS=i != 1, BLOCK=k.BLOCK)
    build(k._backward, own, **kind, FUSED=False, BLOCK=k.BLOCK)
    build(k._backward, own, **kind, FUSED=True, BLOCK=k.BLOCK)
    wide = own["threshold"] == "*fp64"
    for inputs, neurons, span in ((12, 70, 0), (64, 8, 0), (256, 256, 0), (64, 64, 4), (256, 64, 2)):
        rows, columns = ROWS // 2 if wide else ROWS, columns_of(inputs, neurons, span)
        build(k._layer, own, k._warps(rows, columns), **kind, **noisy, FACTOR=math.gcd(inputs, 16),
              FACTOR_OUT=math.gcd(neurons, 16), SPAN=span, INPUTS=tile(inputs), ROWS=rows, COLUMNS=columns,
              WIDENED=False, LEARNS=inputs != 64)
build(k._streams, numbers | dict(out="*bf16"), BLOCK=k.BLOCK)
"""


def test_the_kernels_compile_for_a_gpu_that_is_not_here():
    """The interpreter takes more than the compiler does. Compute capability 9.0, that of an H100 or H200:
    no register is spilled, and the shared memory of 227 KiB is enough for three programs or more."""
    plain = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True, env=plain)
    assert run.returncode == 0, run.stderr[-2000:]
    built = [line.split() for line in run.stdout.splitlines()]
    assert len(built) == 5 * 8 + 1
    for name, registers, spilled, shared, multiplied, divided in built:
        assert int(spilled) == 0 and int(shared) <= 227 * 1024 // 3, (name, registers, shared)
        assert (multiplied == "True") == (name == "_layer")
        # A quotient of float32 is not rounded to the nearest: none in what has to be exact.
        assert (divided == "True") == (name == "_backward")


@pytest.mark.parametrize("seed", range(4))
def test_a_step_around_the_kernels_waits_for_nothing(seed, monkeypatch):
    on_kernels(monkeypatch)
    for name in ("_forward", "_backward", "_layer", "_streams"):
        monkeypatch.setattr(layers, name, Unlaunched())
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
    on_kernels(monkeypatch)
    scores, counts = ours.scores(x)
    assert torch.equal(scores, expected[0]) and (counts == expected[1]).all()
    assert (counts.sum() > 0) == (len(ours.stack.layers) > 1)  # the last layer has no neurons
    assert torch.equal(ours.gradients(x, labels, 0.5), losses)
    for kind, tensors in reference.stack.parameters.items():
        for a, b in zip(tensors, ours.stack.parameters[kind], strict=True):
            theirs, mine = (torch.zeros_like(t) if t.grad is None else t.grad for t in (a, b))
            assert float((mine - theirs).norm()) <= TOLERANCE * float(theirs.norm()) + 1e-6, kind
