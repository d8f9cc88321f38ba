"""The reference of the neurons, in torch: one update a step, read off their description (scnas.snn.models),
exact integers in the forward pass, surrogate gradients behind.

Letters: P candidates side by side, T steps, B samples, N neurons. Numbers are integers in Q(F) held
in floating point; `exact_dtype` says which one holds them exactly. SEMANTICS section 3 is the law.

Gradients: a floor is the identity, saturation stops what it clamps, a spike is the arctangent
surrogate of Fang et al. 2021 ("Incorporating learnable membrane time constant"), and the reset is
not differentiated through (Zenke and Vogels 2021 found that this trains better).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from scnas.snn import derive
from scnas.snn.models import Format, Node, model_of
from scnas.snn.surrogate import ALPHA


class Constants(NamedTuple):
    """Constants of one layer in Q(F), each [P, 1, 1], integers held in floating point.

    threshold: [P, 1, N]. refractory: steps. bound: 2^(W - 1). noise: [P, T], what stochastic_lif adds.
    scale: what counts as a large distance to the threshold, for the surrogate. own: constants of models
    that have such.
    """

    threshold: Tensor
    leak_k: Tensor
    gain_k: Tensor
    decay_k: Tensor
    bump_k: Tensor
    a_k: Tensor
    b_k: Tensor
    d_k: Tensor
    v_rest: Tensor
    v_reset: Tensor
    refractory: Tensor
    bound: Tensor
    noise: Tensor
    scale: Tensor
    own: Mapping[str, Tensor] = MappingProxyType({})

    def each(self, change: Callable[[Tensor], Tensor]) -> "Constants":
        """Every tensor changed alike."""
        return Constants(*map(change, self[:-1]), {name: change(value) for name, value in self.own.items()})

    def select(self, index: Tensor) -> "Constants":
        """The constants of some candidates."""
        return self.each(lambda value: value.index_select(0, index))

    def to(self, dtype: torch.dtype) -> "Constants":
        return self.each(lambda value: value.to(dtype))

    def named(self) -> dict[str, Tensor]:
        """By the names that a description has for them."""
        return dict(zip(self._fields[:-1], self[:-1], strict=True)) | dict(self.own)


class State(NamedTuple):
    """Of every neuron, [P, B, N]: its words by name, the membrane `v` among them; refractory steps left, None
    where no neuron has such steps."""

    words: dict[str, Tensor]
    waiting: Tensor | None


def exact_dtype(model: str, word: int, fraction: int, powers_of_two: bool) -> torch.dtype:
    """The smallest float type in which every intermediate of a neuron update is an exact integer.

    With power-of-two constants a product only moves the exponent, so the largest number is a sum
    of v and a gained current below 2^(2W - 2 - F); anything below 2^24 is exact in float32.
    Arbitrary constants, and the square in izhikevich, need up to 3W bits: exact in float64.
    """
    small = 2 * word - 2 - fraction <= 22 and word <= 20 and derive.only_moves_exponents(model_of(model))
    return torch.float32 if powers_of_two and small else torch.float64


class _Floor(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.floor(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class _Fire(torch.autograd.Function):
    """1 where x >= 0, with the arctangent surrogate of width `scale` behind it."""

    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x, scale)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        x, scale = ctx.saved_tensors
        z = (math.pi / 2 * ALPHA) * (x / scale)
        return gradient * (ALPHA / 2) / (1 + z * z) / scale, None


class _ClipSlope(torch.autograd.Function):
    """`value`, worked out from `along`, whose slope along it, slope(along), is clipped to -1..1 behind it."""

    @staticmethod
    def forward(ctx, value, along, slope):
        ctx.save_for_backward(along)
        ctx.slope = slope
        return value.view_as(value)

    @staticmethod
    def backward(ctx, gradient):
        (along,) = ctx.saved_tensors
        return gradient, gradient * ctx.slope(along).clamp(-1, 1), None


class _Tensors(derive.Arithmetic[Tensor]):
    """Integers in Q(F) in floating point, with the gradients of the module's first lines."""

    def __init__(self, c: Constants, one: float) -> None:
        self.low, self.high, self.scale, self.one = -c.bound, c.bound - 1, c.scale, one
        self._q = Format(1, round(math.log2(one)))

    def number(self, value: int) -> Tensor:
        return self.low.new_full((), value)

    def real(self, numerator: int, denominator: int) -> Tensor:
        return self.number(derive.Whole(self._q).real(numerator, denominator))

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def sub(self, a: Tensor, b: Tensor) -> Tensor:
        return a - b

    def times(self, factor: int, a: Tensor) -> Tensor:
        return factor * a

    def mul(self, a: Tensor, b: Tensor) -> Tensor:
        return _Floor.apply(a * b / self.one)

    def choose(self, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return torch.where(condition.detach() > 0, a, b)

    def clipped_slope(self, node: Node, by: str, names: Mapping[str, Tensor]) -> Tensor:
        along, found = names[by], derive.slope(node, by)
        value = derive.read(node, {**names, by: along.detach()}, self)
        if found is None or not along.requires_grad:
            return value
        others = {name: names[name].detach() for name in found.names - {by}}
        return _ClipSlope.apply(value, along, lambda x: derive.read(found, {**others, by: x}, self))

    def plain(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b

    def unit(self, a: Tensor) -> Tensor:
        return a / self.one

    def saturated(self, a: Tensor) -> Tensor:
        return torch.clamp(a, self.low, self.high)

    def fires(self, p: Tensor, limit: Tensor, waiting: Tensor | None) -> Tensor:
        fired = _Fire.apply(p - limit, self.scale)
        return fired if waiting is None else fired * (waiting == 0)

    def rest_left(self, waiting: Tensor) -> Tensor:
        return (waiting - 1).clamp(min=0)


def initial_state(
    model: str, shape: tuple[int, int, int], c: Constants, one: float, refractory: bool
) -> State:
    """The state before step 0. shape: (P, B, N). one: 2^F. refractory: whether any layer here has such
    steps."""
    zero = c.v_rest.new_zeros(shape)
    first = derive.first_state(model_of(model), c.named(), _Tensors(c, one))
    return State({word: zero + value for word, value in first.items()}, zero if refractory else None)


def step(
    model: str, current: Tensor, noise: Tensor, state: State, c: Constants, one: float
) -> tuple[Tensor, State]:
    """One update. current: [P, B, N]; noise: [P, 1, 1].

    returns: spikes [P, B, N] in {0, 1} and the state for the next step.
    """
    names = {**c.named(), **state.words, "I": current, "noise": noise}
    found = derive.step(model_of(model), names, state.waiting, _Tensors(c, one))
    return found.fires, State(found.state, found.waiting)


def scan(
    model: str, current: Tensor, c: Constants, fraction: int, membranes: bool = False,
    refractory: bool | None = None,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """All T steps of a layer of one model: the reference, in plain torch on any device.

    current: [P, T, B, N], saturated already. c: see Constants; its dtype decides the arithmetic.
    refractory: whether any candidate has one; None looks, and waits for the device to do so.
    returns: spikes [P, T, B, N] in the dtype of `current`, and the membrane after every step if asked.
    """
    one = float(2**fraction)
    dtype = c.threshold.dtype
    if refractory is None:
        refractory = bool((c.refractory > 0).any())
    steps = current.to(dtype).unbind(1)
    state = initial_state(model, steps[0].shape, c, one, refractory)
    spikes, trace = [], []
    for t, now in enumerate(steps):
        fired, state = step(model, now, c.noise[:, t, None, None], state, c, one)
        spikes.append(fired)
        if membranes:
            trace.append(state.words["v"])
    return torch.stack(spikes, 1).to(current.dtype), torch.stack(trace, 1) if membranes else None


# Candidates of one model: its name, their places in the stack [Q], and the float type in which its updates
# are exact, see exact_dtype.
Part = tuple[str, Tensor, torch.dtype]


def scan_reference(
    current: Tensor, c: Constants, parts: Sequence[Part], fraction: int, refractory: bool
) -> Tensor:
    """Spikes [P, T, B, N] of a layer whose candidates, each in one of `parts`, have models of their own.

    current: [P, T, B, N] float32, saturated here. c: of all candidates, in the order of the stack.
    refractory: whether any candidate has such a period.
    """
    spikes = []
    for model, members, dtype in parts:
        own = c.select(members).to(dtype)
        bound = own.bound.to(current.dtype)[:, None]
        mine = current.index_select(0, members).clamp(-bound, bound - 1)
        spikes.append(scan(model, mine, own, fraction, refractory=refractory)[0])
    return together(spikes, torch.argsort(torch.cat([members for _, members, _ in parts])))


def together(parts: Sequence[Tensor], order: Tensor) -> Tensor:
    """Rows of several tensors in one; order: where each row of the result stands among theirs."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts)).index_select(0, order)
