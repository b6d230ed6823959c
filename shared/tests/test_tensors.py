"""Samples on a device, their batches, and random generators: equal to what programs do by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from shared.datasets import Split
from shared.errors import UserError
from shared.tensors import (
    Samples,
    drawn_generator,
    global_generators,
    moved_and_mirrored,
    on_device,
    one_hot_like,
    random_order,
)

DEVICES = ["cpu", *(["cuda:0"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


def split(n: int = 7) -> Split:
    """The image of sample k is full of k; its class is k modulo three."""
    images = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 1, 2, 3))
    return Split(images.copy(), np.arange(n) % 3)


def test_a_split_is_brought_to_the_device_as_it_is(device: torch.device) -> None:
    samples = Samples.of(split(), device)
    assert (samples.inputs.dtype, samples.labels.dtype) == (torch.uint8, torch.int64)
    assert samples.inputs.shape == (7, 1, 2, 3)
    assert samples.inputs[:, 0, 1, 2].tolist() == list(range(7))
    assert samples.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert len(samples) == 7
    assert samples.device == device


@pytest.mark.parametrize("kind", ["reversed", "not writable", "transposed"])
def test_arrays_that_torch_does_not_take_as_they_are(kind: str) -> None:
    array = np.arange(12.0).reshape(3, 4)
    given = {"reversed": array[::-1], "not writable": array.copy(), "transposed": array.T}[kind]
    if kind == "not writable":
        given.flags.writeable = False
    found = on_device(given, torch.device("cpu"))
    np.testing.assert_array_equal(found.numpy(), given)
    found[0, 0] = -1
    if kind == "not writable":
        assert given[0, 0] == 0


def test_the_first_samples_and_mapped_inputs() -> None:
    samples = Samples.of(split(), torch.device("cpu"))
    few = samples.first(2).map(lambda pixels: pixels[:, 0].float() / 255)
    assert len(few) == 2
    assert few.inputs.shape == (2, 2, 3)
    assert torch.equal(few.inputs[1], torch.full((2, 3), 1 / 255))
    assert few.labels.tolist() == [0, 1]
    assert len(samples.first(None)) == len(samples.first(100)) == 7


def test_one_hot_targets_are_no_classes_any_more() -> None:
    samples = Samples.of(split(), torch.device("cpu"))
    taught = samples.one_hot(4)
    assert taught.targets.dtype == torch.float32
    assert taught.targets.argmax(1).tolist() == samples.labels.tolist()
    assert taught.targets.sum(1).tolist() == [1.0] * 7
    assert len(taught) == 7
    with pytest.raises(TypeError, match=r"torch.float32 \[7, 4\] are no classes"):
        taught.labels  # noqa: B018 - looking is what fails


@pytest.mark.parametrize("label", [-1, 3])
def test_a_class_out_of_range_is_refused(label: int) -> None:
    samples = Samples(torch.zeros(2, 1), torch.tensor([0, label]))
    with pytest.raises(UserError, match=rf"the label {label}, but the classes are 0 to 2"):
        samples.one_hot(3)


def test_samples_that_are_no_numbers_are_refused_by_number() -> None:
    inputs = np.zeros((4, 2, 2), np.float32)
    inputs[2, 1, 0] = np.nan
    inputs[3] = np.inf
    with pytest.raises(UserError, match=r"sample 2 \(counted from 0\)"):
        Samples.of(Split(inputs, np.zeros(4, np.int64)), torch.device("cpu"))


def test_a_part_may_be_empty() -> None:
    nothing = Split(np.zeros((0, 3, 2), np.float32), np.zeros(0, np.int64))
    found = Samples.of(nothing, torch.device("cpu"))
    assert (len(found), found.inputs.shape) == (0, (0, 3, 2))


def test_a_target_for_each_sample_is_wanted() -> None:
    given = SimpleNamespace(inputs=np.zeros((4, 1)), labels=np.zeros(3, np.int64))
    with pytest.raises(UserError, match="4 samples have 3 targets"):
        Samples.of(given, torch.device("cpu"))


@pytest.mark.parametrize("n", [0, 1, 6, 7])
@pytest.mark.parametrize("size", [1, 3, 10])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffled", [False, True])
def test_batches_are_those_that_a_split_order_gives(
    n: int, size: int, drop_last: bool, shuffled: bool, device: torch.device
) -> None:
    samples = Samples.of(split(n), device)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(5)).to(device)
    indices = order if shuffled else torch.arange(n, device=device)
    expected = [which for which in torch.split(indices, size) if len(which)]
    if drop_last:
        expected = [which for which in expected if len(which) == size]
    batches = samples.batches(size, order if shuffled else None, drop_last=drop_last)
    for _ in range(2):  # they can be gone through again
        found = list(batches)
        assert len(found) == len(batches) == len(expected)
        for (inputs, targets), which in zip(found, expected, strict=True):
            assert torch.equal(inputs, samples.inputs[which])
            assert torch.equal(targets, samples.labels[which])
    assert batches.n_samples == sum(map(len, expected))


def test_an_order_may_name_some_samples_only() -> None:
    samples = Samples.of(split(), torch.device("cpu"))
    batches = samples.batches(2, torch.tensor([6, 0, 0]))
    assert [targets.tolist() for _, targets in batches] == [[0, 0], [0]]
    assert batches.n_samples == 3


def test_batches_of_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="at least one sample"):
        Samples.of(split(), torch.device("cpu")).batches(0)


def test_an_order_is_drawn_where_its_generator_is(device: torch.device) -> None:
    torch.manual_seed(3)
    expected = torch.randperm(50)
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(random_order(50, device), expected.to(device))
    assert torch.equal(torch.rand(1), after)  # nothing else was drawn

    for where in (torch.device("cpu"), device):
        generator = torch.Generator(where).manual_seed(4)
        expected = torch.randperm(50, generator=generator, device=where)
        found = random_order(50, device, torch.Generator(where).manual_seed(4))
        assert found.device == device
        assert torch.equal(found, expected.to(device))


def test_a_drawn_generator_follows_the_seed_and_is_not_its_stream(device: torch.device) -> None:
    torch.manual_seed(3)
    seed = int(torch.randint(2**62, ()))
    torch.manual_seed(3)
    generator = drawn_generator(device)
    assert generator.device == device
    assert generator.initial_seed() == seed


def test_the_generators_of_a_run_are_torchs_own(device: torch.device) -> None:
    found = global_generators(device)
    assert found["generator"] is torch.default_generator
    assert set(found) == {"generator", *(["cuda_generator"] if device.type == "cuda" else [])}
    assert next(iter(global_generators(device, cpu="order"))) == "order"


def test_the_generator_of_the_gpu_is_that_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "default_generators", ("first", "second"))
    assert global_generators(torch.device("cuda"))["cuda_generator"] == "first"
    assert global_generators(torch.device("cuda:1"), cuda="cuda")["cuda"] == "second"


def test_classes_in_the_form_of_an_output(device: torch.device) -> None:
    output = torch.zeros(3, 4, dtype=torch.float64, device=device)
    found = one_hot_like(torch.tensor([3, 0, 1], device=device), output)
    assert (found.dtype, found.device) == (torch.float64, device)
    assert found.argmax(1).tolist() == [3, 0, 1]
    assert found.sum() == 3


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_moved_images_are_crops_and_mirrored_crops(dtype):
    pixels = torch.randint(1, 256, (120, 1, 8, 8)).to(dtype)
    before = pixels.clone()
    found = moved_and_mirrored(pixels, 4, torch.Generator().manual_seed(0))
    assert torch.equal(pixels, before)
    assert found.shape == pixels.shape
    assert found.dtype == dtype
    again = moved_and_mirrored(pixels, 4, torch.Generator().manual_seed(0))
    assert torch.equal(found, again)
    places = []
    for original, image in zip(pixels, found, strict=True):
        padded = torch.nn.functional.pad(original, (4,) * 4)
        crops = {
            (top, left, flip): crop.flip(2) if flip else crop
            for top in range(9)
            for left in range(9)
            for flip in (0, 1)
            for crop in [padded[:, top : top + 8, left : left + 8]]
        }
        places.append(next(place for place, crop in crops.items() if torch.equal(crop, image)))
    assert [len({place[i] for place in places}) for i in range(3)] == [9, 9, 2]
