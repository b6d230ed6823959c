"""BRP-SNN: input, forward, gradients and Adam of spiking networks, T = 20."""

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from against.common import CLASSES, Row, Side, Where, digits, gradients, imported, one_hot, theirs
from brp_snn.data import Data
from brp_snn.function import Mode
from brp_snn.models import NetworkBuilder
from brp_snn.train import OPTIMIZERS, Presentation, Trainer
from shared.tensors import Samples

BATCH, STEPS, RATE = 50, 20, 1e-4
TOPOLOGY = "FC_1000_FC_10"
CALLED: dict[Mode, str] = {"BRP": "DRTP"}
"""What the published program calls a mode, where it has another name for it."""


def make(where: Where, mode: Mode) -> tuple[Side, Side]:
    """Both sides.

    The published networks compare what they are shown with random numbers, at every step. Shown
    spikes that have been drawn beforehand they always see these, and so do ours, which draw, too.
    """
    torch.manual_seed(0)
    pixels, labels = digits(where.batch)
    frames = torch.bernoulli(pixels[:, :, None].expand(-1, -1, STEPS, -1, -1)).to(where.device)
    targets = one_hot(labels, where.dtype).to(where.device)
    network = NetworkBuilder(TOPOLOGY, (1, 28, 28), mode).to(where.device, where.dtype)
    return published(where, mode, network, frames, targets), ours(where, network, frames, targets)


def published(
    where: Where, mode: Mode, like: NetworkBuilder, frames: Tensor, targets: Tensor
) -> Side:
    """The published network with the weights of ours."""
    models = imported("models", where.checkout)
    with theirs(where.device, where.dtype):
        network = models.NetworkBuilder(
            topology=TOPOLOGY,
            input_size=28 * 28,
            input_channels=1,
            label_features=CLASSES,
            train_batch_size=where.batch,
            train_mode=CALLED.get(mode, mode),
            dropout=0,
            conv_act="tanh",
            hidden_act="tanh",
            output_act="sigmoid",
            fc_zero_init=False,
            spike_window=STEPS,
            device=where.device,
            thresh=0.5,
            randKill=1.0,
            lens=0.5,
            decay=0.2,
        ).to(where.device, where.dtype)
    network.load_state_dict(like.state_dict())
    adam = torch.optim.Adam(network.parameters(), lr=RATE)

    def step() -> Tensor:
        with theirs(where.device, where.dtype):
            adam.zero_grad()
            output: Tensor = network(frames, targets)
            mse_loss(output, targets).backward()
            adam.step()
        return output.detach()

    return Side(step, lambda: {"readout": step(), **gradients(network)})


def ours(where: Where, network: NetworkBuilder, frames: Tensor, targets: Tensor) -> Side:
    """Our network as `main.py` trains it."""
    part = Samples(frames, targets)
    shape = (1, 28, 28)
    data = Data("digits", part, part, part, "frames", shape, lambda shown, _: shown.to(where.dtype))
    trainer = Trainer(
        network,
        data,
        Presentation(STEPS, 1.0, "MSE"),
        OPTIMIZERS["Adam"](network.parameters(), lr=RATE),
        torch.Generator(where.device).manual_seed(0),
    )
    assert trainer.optimizer is not None
    adam = trainer.optimizer

    def step() -> Tensor:
        outcome = trainer.learn(frames, targets)
        adam.step()
        return outcome.output

    return Side(step, lambda: {"readout": step(), **gradients(network)})


def _row(mode: Mode) -> Row:
    return Row(
        f"784-1000-10 by {mode}, {BATCH} digits, T = {STEPS}",
        partial(make, mode=mode),
        BATCH,
        BATCH,
        3,
    )


ROWS = {"brp_snn BRP": _row("BRP"), "brp_snn BP": _row("BP")}
