"""What a training loop of one's own needs, as the paper's program has it."""

import argparse
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.optim.lr_scheduler import ExponentialLR
from torch.utils.data import DataLoader, TensorDataset

from shared import datasets
from shared.datasets import Split
from shared.device import torch_device
from shared.errors import UserError
from stl_snn.param import SETTINGS
from stl_snn.spiking_model import MNIST


class Parts(NamedTuple):
    """What a training needs, in the order in which the paper's program takes it.

    Attributes:
        model: images [batch, 1, 28, 28] in [0, 1] to votes [batch, 10].
        train_loader: all 60,000 training images in batches, in another random order each epoch.
        test_loader: the test images in batches, in their order.
        criterion: mean squared difference, of votes and one-hot labels.
        optimizer: Adam over all parameters that learn; weight decay on thresholds too.
        scheduler: to be called after every epoch.
        epochs: passes over the training set.
        batch_size: images a batch.
    """

    model: MNIST
    train_loader: DataLoader[tuple[Tensor, ...]]
    test_loader: DataLoader[tuple[Tensor, ...]]
    criterion: Callable[[Tensor, Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    scheduler: ExponentialLR
    epochs: int
    batch_size: int


def get_model_and_dataset(args: argparse.Namespace) -> Parts:
    """A fresh network, its data and its optimizer.

    Args:
        args: data ("mnist" or "fashion_mnist"); gpu: the network goes to CUDA; tl: thresholds learn
            too; data_root where data lie elsewhere than in the default folder. In place of gpu and
            tl those of `train.Settings`: device, and learning with train_norm.

    Raises:
        UserError: the data set is another, or the device is not there.
        DatasetError: the data cannot be had.
    """
    if args.data not in ("mnist", "fashion_mnist"):
        raise UserError(
            f"the network of 28 x 28 images has no loaders for {args.data}: take mnist or "
            "fashion_mnist, or train it with train.py"
        )
    setting = SETTINGS[args.data]()
    model = MNIST(train=getattr(args, "tl", True))
    if not hasattr(args, "tl") and hasattr(args, "learning"):
        model.learn(args.learning, getattr(args, "train_norm", True))
    if hasattr(args, "gpu"):
        model.to(torch_device("cuda" if args.gpu else "cpu"))
    elif hasattr(args, "device"):
        model.to(torch_device(args.device))
    images = datasets.load(args.data, getattr(args, "data_root", None), validation=0)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=setting.lr, weight_decay=setting.weight_decay
    )
    return Parts(
        model,
        _loader(images.train, setting.batch_size, shuffle=True),
        _loader(images.test, setting.batch_size, shuffle=False),
        mse_loss,
        optimizer,
        ExponentialLR(optimizer, setting.lr_decay),
        setting.epochs,
        setting.batch_size,
    )


def _loader(split: Split, batch_size: int, *, shuffle: bool) -> DataLoader[tuple[Tensor, ...]]:
    pixels = torch.from_numpy(split.inputs).float() / 255
    samples = TensorDataset(pixels, torch.from_numpy(split.labels))
    return DataLoader(samples, batch_size, shuffle=shuffle)
