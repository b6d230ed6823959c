"""The fast layers equal the plain ones; thresholds learn; no memory is kept alive."""

import gc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stl_snn import _kernels, func, reference
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
