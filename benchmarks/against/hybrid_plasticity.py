"""Hybrid plasticity: forward, backward and both Adams of the simple example by HP."""

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from against.common import Row, Side, Where, digits, imported, one_hot, theirs
from hybrid_plasticity.networks import FullyConnected
from hybrid_plasticity.simple_example.shared_parameters import SETTINGS
from hybrid_plasticity.training import optimizers, squared_error, step_of

ADDRESSES = {
    f"{part}{i + 1}": f"layers.{i}.{part}" for i in range(2) for part in ("alpha", "beta", "eta")
} | {f"fc{i + 1}.{part}": f"layers.{i}.fc.{part}" for i in range(2) for part in ("weight", "bias")}
"""Our name of each published parameter; its gamma is read by no one."""


def make(where: Where) -> tuple[Side, Side]:
    """Both sides, on the traces that training starts from and goes on with."""
    torch.manual_seed(0)
    images, labels = (part.to(where.device) for part in digits(where.batch))
    network = SETTINGS.network("hp").to(where.device, where.dtype)
    images = images.to(where.dtype)
    return published(where, network, images, labels), ours(network, images, labels)


def published(where: Where, like: FullyConnected, images: Tensor, labels: Tensor) -> Side:
    """The published network with the parameters of ours."""
    model = imported("model_hp", where.checkout / "simple-example")
    model.batch_size, model.device = where.batch, where.device  # what its functions look up
    with theirs(where.device, where.dtype):
        network = model.SNN_Model().to(where.device, where.dtype)
    with torch.no_grad():
        for name, own in ADDRESSES.items():
            network.get_parameter(name).copy_(like.get_parameter(own))
    adams = [
        torch.optim.Adam(parameters, lr)
        for parameters, lr in zip(
            network.parameter_split(), (SETTINGS.lr, SETTINGS.lr_local), strict=True
        )
    ]
    targets = one_hot(labels, where.dtype)
    traces = [trace.to(where.dtype) for trace in network.produce_hebb()]

    def step() -> Tensor:
        with theirs(where.device, where.dtype):
            for adam in adams:
                adam.zero_grad()
            output, _, _, *moved = network(images, *traces, SETTINGS.steps)
            traces[:] = moved[:2]
            mse_loss(output, targets).backward()
            for adam in adams:
                adam.step()
        found: Tensor = output.detach()
        return found

    def found() -> dict[str, Tensor]:
        seen = {"output": step(), "trace 0": traces[0], "trace 1": traces[1]}
        return seen | {own: gradient_of(network, name) for name, own in ADDRESSES.items()}

    return Side(step, found)


def ours(network: FullyConnected, images: Tensor, labels: Tensor) -> Side:
    """Our network as the program trains it."""
    move = step_of(optimizers(network, SETTINGS.lr, SETTINGS.lr_local))

    def step() -> Tensor:
        output: Tensor = network(images[:, 0]).output
        network.zero_grad(set_to_none=True)
        squared_error(output, labels).backward()
        move()
        return output.detach()

    def found() -> dict[str, Tensor]:
        output = step()
        traces = {f"trace {i}": layer.hebb for i, layer in enumerate(network.plastic_layers())}
        own = {name: gradient_of(network, name) for name in ADDRESSES.values()}
        return {"output": output, **traces, **own}

    return Side(step, found)


def gradient_of(network: torch.nn.Module, name: str) -> Tensor:
    """Of a parameter, as a matrix has it: whatever one side calls a row is one for both."""
    gradient = network.get_parameter(name).grad
    assert gradient is not None, name
    return gradient.squeeze()


ROWS = {
    "hybrid_plasticity": Row(
        "simple example by HP, 784-512-10, 100 digits, T = 10", make, 100, 20, 10
    )
}
