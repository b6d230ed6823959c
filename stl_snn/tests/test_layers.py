"""The fast layers equal the plain ones; thresholds learn; no memory is kept alive."""

import gc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stl_snn import _convolution, _kernels, func, reference
from stl_snn.lif import ByTorch
from stl_snn.lif import lif as fused

DTYPES = st.sampled_from([torch.float32, torch.float64])
SIZES = st.integers(1, 6)


def draw(shape, dtype, seed=0, factor=1.0):
    generator = torch.Generator().manual_seed(seed)
    return (factor * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)


def assert_close(found, expected):
    """Equal to rounding, relative to the largest entry: sums of many terms round differently."""
    assert found.shape == expected.shape
    largest = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    tolerance = 1e-5 if expected.dtype == torch.float32 else 1e-11
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * largest)


def results(layer, x, signal):
    """Outputs of a layer, and gradients of its input and parameters for those of the outputs."""
    x = x.clone().requires_grad_()
    for parameter in layer.parameters():
        parameter.grad = None
    out = layer(x)
    (out * signal).sum().backward()
    return [out.detach(), x.grad, *(p.grad for p in layer.parameters()), *layer.buffers()]


def assert_equal_layers(fast, plain, x, seed=0):
    plain.load_state_dict(fast.state_dict())
    for layer in (fast, plain):
        layer.to(x.dtype).train()
    signal = draw(fast(x).shape, x.dtype, seed + 1)
    plain.load_state_dict(fast.state_dict())
    for training in (True, False):
        found, expected = (results(layer.train(training), x, signal) for layer in (fast, plain))
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other)


@settings(deadline=None, max_examples=40)
@given(
    batch=SIZES,
    steps=SIZES,
    n=st.integers(1, 1100),
    dtype=DTYPES,
    tau=st.floats(0, 0.95),
    alpha=st.floats(0.5, 4),
    seed=st.integers(0, 999),
)
def test_the_fused_neurons_equal_the_plain_loop(batch, steps, n, dtype, tau, alpha, seed):
    current, signal = (draw((batch, steps, n), dtype, seed + i, 1.5) for i in range(2))
    theta = draw((n,), dtype, seed + 2) + 1
    found, expected = [], []
    for lif, into in ((fused, found), (reference.lif, expected)):
        given_ = [tensor.clone().requires_grad_() for tensor in (current, theta)]
        spikes = lif(*given_, tau, alpha)
        (spikes * signal).sum().backward()
        into += [spikes.detach(), *(tensor.grad for tensor in given_)]
    assert torch.equal(found[0], expected[0])
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other)
    elsewhere = ByTorch.backward(current, theta, signal, tau, alpha)
    assert torch.equal(ByTorch.forward(current, theta, tau), expected[0])
    for one, other in zip(elsewhere, expected[1:], strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("block", [1, 7, 32, 1024])
def test_the_size_of_a_block_changes_nothing(block, monkeypatch):
    current, theta = draw((3, 4, 100), torch.float32), torch.ones(100)
    expected = _kernels.backward(current, theta, current.flip(0), 0.5, 2.0)
    spikes = _kernels.forward(current, theta, 0.5)
    monkeypatch.setattr(_kernels, "_block", lambda n, threads: block)
    assert torch.equal(_kernels.forward(current, theta, 0.5), spikes)
    found = _kernels.backward(current, theta, current.flip(0), 0.5, 2.0)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@settings(deadline=None, max_examples=15)
@given(batch=st.integers(2, 4), steps=SIZES, channels=SIZES, side=SIZES, dtype=DTYPES)
def test_batch_normalization(batch, steps, channels, side, dtype):
    x = draw((batch, steps, channels, side, side), dtype, factor=2.0)
    fast, plain = func.BatchNorm2d(channels), reference.BatchNorm2d(channels)
    with torch.no_grad():
        fast.weight.uniform_(0.5, 2)
        fast.bias.uniform_(-1, 1)
    assert_equal_layers(fast, plain, x)
    assert fast.num_batches_tracked == 2 == plain.num_batches_tracked  # passes, not steps


@settings(deadline=None, max_examples=15)
@given(batch=SIZES, steps=SIZES, n_in=st.integers(1, 10), n_out=SIZES, dtype=DTYPES)
def test_convolution_and_linear(batch, steps, n_in, n_out, dtype):
    x = draw((batch, steps, n_in, 6, 6), dtype)
    assert_equal_layers(
        func.Conv2d(n_in, n_out, 3, padding=1), reference.Conv2d(n_in, n_out, 3, padding=1), x
    )
    assert_equal_layers(func.Linear(36 * n_in, n_out), reference.Linear(36 * n_in, n_out), x)


@settings(deadline=None, max_examples=25)
@given(
    batch=SIZES,
    steps=SIZES,
    channels=SIZES,
    side=st.integers(2, 9),
    size=st.integers(1, 4),
    dtype=DTYPES,
    binary=st.booleans(),
)
def test_pooling(batch, steps, channels, side, size, dtype, binary):
    # Spikes are full of ties, where the gradient goes to the first.
    size = min(size, side)
    x = draw((batch, steps, channels, side, side), dtype)
    x = (x > 0.5).to(dtype) if binary else x
    assert_equal_layers(func.AdaptiveMaxPool2d(size), reference.AdaptiveMaxPool2d(size), x)
    assert_equal_layers(func.AdaptiveAvgPool2d(size), reference.AdaptiveAvgPool2d(size), x)


def test_pooling_sees_what_is_no_number():
    x = torch.zeros(2, 3, 4, 8, 8)
    x[0, 0, 0, 1, 1] = float("nan")
    assert torch.isnan(func.AdaptiveMaxPool2d(4)(x)[0, 0, 0, 0, 0])


def test_a_second_derivative_is_refused():
    x = torch.zeros(2, 3, 4, requires_grad=True)
    out = fused(x, torch.ones(4)).square().sum()
    (gradient,) = torch.autograd.grad(out, x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_dropout_draws_a_mask_a_step():
    torch.manual_seed(0)
    x = torch.ones(20, 6, 50)
    for layers in (func, reference):
        out = layers.Dropout(0.5)(x)
        assert set(out.unique().tolist()) == {0.0, 2.0}
        assert float(out.mean()) == pytest.approx(1, abs=0.05)
        assert all(not torch.equal(out[:, t], out[:, 0]) for t in range(1, 6))


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 1, 1), (1, 1, 1)])
def test_thresholds_may_be_shared(shape):
    torch.manual_seed(0)
    neurons = func.LIF(True, torch.full(shape, 0.5, dtype=torch.float64))
    assert neurons.thresh.shape == shape
    assert neurons.thresh.dtype == torch.float64
    x = draw((2, 4, 3, 4, 5), torch.float64)
    theta = neurons.thresh.detach().expand(3, 4, 5).clone().requires_grad_()
    (reference.lif(x, theta) ** 2 * x).sum().backward()
    (neurons(x) ** 2 * x).sum().backward()
    axes = tuple(i for i in range(3) if shape[i] == 1)
    expected = theta.grad.sum(axes, keepdim=True) if axes else theta.grad
    torch.testing.assert_close(neurons.thresh.grad, expected, rtol=1e-9, atol=1e-12)


def test_raising_a_threshold_does_what_its_gradient_says():
    # A silent neuron that should spike: the loss falls where the threshold falls.
    x = torch.full((50, 4, 1), 0.9)
    theta = torch.full((1,), 2.0, requires_grad=True)
    optimizer = torch.optim.Adam([theta], lr=0.05)
    losses = []
    for _ in range(60):
        loss = ((fused(x, theta) - 1) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        if not losses:
            assert float(theta.grad) > 0
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] == 1
    assert losses[-1] == 0
    assert float(theta.detach()) < 0.9


def test_thresholds_stay_above_a_floor():
    neurons = func.LIF(True, torch.full((5,), 0.1), heterogeneity=100, floor=0.05)
    assert (neurons.thresh < 0.05).any()
    neurons.keep_above_floor()
    assert (neurons.thresh >= 0.05).all()
    free = func.LIF(True, torch.zeros(50), heterogeneity=100)
    before = free.thresh.detach().clone()
    free.keep_above_floor()
    assert torch.equal(free.thresh, before)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit neurons of shape"):
        fused(torch.zeros(2, 3, 4), torch.zeros(5))
    neurons = func.LIF(True, torch.ones(1, 4, 4))
    for shape in ((3, 4), (3, 5, 4), (3, 4, 4, 5)):
        with pytest.raises(ValueError, match=r"thresholds \(1, 4, 4\) do not fit neurons \(3, "):
            neurons(torch.zeros(2, 3, *shape))


@pytest.mark.parametrize("own", [(), (1,), (4, 4), (3, 4, 4)])
def test_thresholds_are_broadcast(own):
    current = 3 * torch.rand(2, 5, 3, 4, 4)
    shared = func.LIF(True, torch.full(own, 1.5), heterogeneity=0)
    each = func.LIF(True, torch.full((3, 4, 4), 1.5), heterogeneity=0)
    assert torch.equal(shared(current), each(current))


@pytest.mark.parametrize(
    ("of_current", "of_theta"),
    [
        (torch.float32, torch.float64),
        (torch.float64, torch.float32),
        (torch.float16, torch.float16),
        (torch.bfloat16, torch.float32),
        (torch.int64, torch.int64),
    ],
)
def test_dtypes_that_are_not_counted_in_are_refused(of_current, of_theta):
    current, theta = torch.zeros(2, 3, 4, dtype=of_current), torch.ones(4, dtype=of_theta)
    with pytest.raises(ValueError, match=f"currents of {of_current} and thresholds of {of_theta}"):
        fused(current, theta)


def test_steps_keep_no_memory_alive():
    layer = torch.nn.Sequential(
        func.Conv2d(1, 3, 3, padding=1),
        func.BatchNorm2d(3),
        func.LIF(True, torch.full((3, 8, 8), 0.5)),
        func.AdaptiveMaxPool2d(4),
        func.Linear(48, 20),
        func.LIF(True, torch.full((20,), 0.1)),
        func.Vote(10),
    )

    def living():
        for parameter in layer.parameters():
            parameter.grad = None
        layer(torch.rand(2, 4, 1, 8, 8)).sum().backward()
        gc.collect()
        return sum(issubclass(type(x), torch.Tensor) for x in gc.get_objects())

    living()
    assert living() == living()


def test_threads_asked_for_are_threads_used(assert_keeps_one_thread):
    assert_keeps_one_thread("from stl_snn.lif import lif\nlif(torch.ones(2, 3, 4), torch.ones(4))")


def block_of(layers, channels, height, dtype, pool=None, seed=0):
    """Normalization, neurons and max pooling whose parameters are drawn."""
    torch.manual_seed(seed)
    norm = layers.BatchNorm2d(channels)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    neurons = layers.LIF(True, 0.5 + torch.rand(channels, height, height))
    pooling = [layers.AdaptiveMaxPool2d(pool)] if pool else []
    return torch.nn.Sequential(norm, neurons, *pooling).to(dtype)


class Joined(torch.nn.Module):
    """The layers in one operation."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x):
        pool = self.layers[2] if len(self.layers) > 2 else None
        found = func.fused(self.layers[0], self.layers[1], pool, x)
        assert found is not None
        return found


@settings(deadline=None, max_examples=30)
@given(
    batch=st.integers(2, 11),
    steps=SIZES,
    channels=st.sampled_from([1, 2, 3, 7, 40, 150]),
    side=st.integers(2, 9),
    pooled=st.booleans(),
    last=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_block_in_one_operation(batch, steps, channels, side, pooled, last, seed):
    pool = side // 2 if pooled else None  # of odd sides, too, where windows overlap
    x = draw((batch, steps, channels, side, side), torch.float64, seed, 2.0) + 3
    if last:
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
    fast = Joined(block_of(func, channels, side, torch.float64, pool, seed))
    plain = Joined(block_of(reference, channels, side, torch.float64, pool, seed))
    plain.forward = lambda x: plain.layers(x)
    assert_equal_layers(fast, plain, x, seed)
    assert fast.layers[0].num_batches_tracked == 2


def test_a_block_in_float32_is_as_exact_as_its_layers():
    x = draw((20, 4, 6, 12, 12), torch.float32, factor=2.0) + 10
    signal = draw((20, 4, 6, 6, 6), torch.float32, 1)
    found = {}
    for name, dtype in (("joined", torch.float32), ("apart", torch.float32), ("true", None)):
        layers = block_of(func, 6, 12, dtype or torch.float64, 6)
        layer = Joined(layers) if name == "joined" else layers
        kind = dtype or torch.float64
        found[name] = results(layer, x.to(kind), signal.to(kind))

    def error(name):
        pairs = list(zip(found[name], found["true"], strict=True))[1:]
        return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)

    assert torch.equal(found["joined"][0].double(), found["true"][0])
    assert error("joined") < max(1e-5, 2 * error("apart"))


def test_blocks_step_aside():
    layers, x = block_of(func, 3, 6, torch.float32, 3), torch.rand(2, 4, 3, 6, 6)
    assert func.fused(*layers, x) is not None
    assert func.fused(*layers, x.double()) is None  # another dtype than the thresholds'
    assert func.fused(*block_of(reference, 3, 6, torch.float32, 3), x) is None
    for layer in layers:
        handle = layer.register_forward_hook(lambda *_: None)
        assert func.fused(*layers, x) is None
        handle.remove()
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert func.fused(*layers, x) is None
    handle.remove()
    pool = type("Own", (func.AdaptiveMaxPool2d,), {})(3)
    assert func.fused(layers[0], layers[1], pool, x) is None
    assert func.fused(func.BatchNorm2d(3, affine=False), layers[1], None, x) is None
    assert func.fused(*layers, x[:0]) is None
    assert func.fused(*layers, x) is not None


def test_a_block_refuses_what_is_no_number():
    layers, x = block_of(func, 3, 6, torch.float32, 3), torch.rand(4, 5, 3, 6, 6)
    x[2, 1, 0, 3, 3] = float("nan")
    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        func.fused(*layers, x).sum().backward()
    with pytest.raises(ValueError, match="one value per channel"):
        func.fused(*block_of(func, 3, 1, torch.float32), None, torch.rand(1, 5, 3, 1, 1))


@settings(deadline=None, max_examples=25)
@given(
    images=st.integers(1, 5),
    n_in=st.sampled_from([8, 9, 33]),
    n_out=st.sampled_from([8, 13, 40]),
    kernel=st.sampled_from([1, 3, 5]),
    sides=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    rate=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    dtype=DTYPES,
)
def test_convolutions_of_spikes(images, n_in, n_out, kernel, sides, rate, dtype):
    generator = torch.Generator().manual_seed(images)
    spikes = (torch.rand(images, n_in, *sides, generator=generator) < rate).to(dtype)
    weight, signal = draw((n_out, n_in, kernel, kernel), dtype), None
    found = []
    listed = _convolution.listed(spikes)
    assert listed.share == pytest.approx(float(spikes.mean()))
    for convolve in (
        lambda x, w: _convolution.convolve(x, w, listed),
        lambda x, w: torch.nn.functional.conv2d(x, w, padding=kernel // 2),
    ):
        x, w = spikes.clone().requires_grad_(), weight.clone().requires_grad_()
        out = convolve(x, w)
        signal = draw(out.shape, dtype, 1) if signal is None else signal
        (out * signal).sum().backward()
        found.append([out.detach(), x.grad, w.grad])
    for one, other in zip(*found, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("value", [0.5, 2.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_spike_is_not_taken_for_one(value):
    x = torch.zeros(2, 3, 33, 6, 6)
    x[1, 2, 4, 5, 0] = value
    assert _convolution.listed(x.flatten(0, 1)) is None
    layer = func.Conv2d(33, 32, 3, padding=1, bias=False)
    expected = torch.nn.functional.conv2d(x.flatten(0, 1), layer.weight, padding=1)
    torch.testing.assert_close(layer(x).flatten(0, 1), expected, equal_nan=True)


def test_a_weight_that_is_no_number_tells_without_a_spike():
    layer = func.Conv2d(32, 32, 3, padding=1, bias=False)
    with torch.no_grad():
        layer.weight[5, 7] = float("nan")
    assert layer(torch.zeros(2, 3, 32, 6, 6))[:, :, 5].isnan().all()


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_spikes_alone_are_visited_where_they_are_few(share, monkeypatch):
    visited = []
    convolve = _convolution.convolve
    monkeypatch.setattr(_convolution, "convolve", lambda *a: visited.append(1) or convolve(*a))
    x = (torch.rand(2, 3, 32, 9, 9, generator=torch.Generator().manual_seed(0)) < share).float()
    layer, plain = (of.Conv2d(32, 40, 5, padding=2, bias=False) for of in (func, reference))
    assert_equal_layers(layer, plain, x)
    assert bool(visited) == (share < func.FEW_SPIKES)


def test_threads_change_nothing():
    x = (torch.rand(10, 4, 16, 12, 12, generator=torch.Generator().manual_seed(0)) < 0.1).float()
    layers = torch.nn.Sequential(
        func.Conv2d(16, 16, 5, padding=2, bias=False), Joined(block_of(func, 16, 12, None, 6))
    )
    threads, found = torch.get_num_threads(), []
    weight = layers[0].weight
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            currents = layers[0](x).detach().requires_grad_()
            spikes = layers[1](currents)
            (spikes * draw(spikes.shape, torch.float32)).sum().backward()
            listed = _convolution.listed(x.flatten(0, 1))
            to_weight = _convolution._gradient(currents.grad.flatten(0, 1), weight, listed)
            theta = layers[1].layers[1].thresh
            found.append([currents.detach(), spikes.detach(), currents.grad, theta.grad, to_weight])
            theta.grad = None
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_normalization_without_a_scale_is_that_of_torch_at_each_step():
    x = torch.rand(3, 4, 2, 5, 5)
    own, plain = func.BatchNorm2d(2, affine=False), torch.nn.BatchNorm2d(2, affine=False)
    expected = torch.stack([plain(x[:, t]) for t in range(4)], 1)
    torch.testing.assert_close(own(x), expected)
    torch.testing.assert_close(own.running_mean, plain.running_mean)


def test_votes_are_shared_out_evenly_and_none_are_none():
    assert func.Vote(10)(torch.zeros(0, 4, 100)).shape == (0, 10)
    with pytest.raises(ValueError, match="95 neurons are no multiple of 10 votes for a class"):
        func.Vote(10)(torch.zeros(2, 4, 95))


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 0, 3)])
def test_currents_without_a_step_are_refused(shape):
    with pytest.raises(ValueError, match=r"are not \[batch, time, \.\.\.\] of a step"):
        fused(torch.zeros(shape), torch.ones(3))


@pytest.mark.parametrize("kept", [{"momentum": None}, {"track_running_stats": False}])
def test_a_normalization_without_a_running_average_over_steps_is_refused(kept):
    with pytest.raises(ValueError, match="exponential running average over steps"):
        func.BatchNorm2d(2, **kept)
