"""MNIST's settings under their published names; `param.py` holds them, and those of all sets."""

from dataclasses import dataclass

from stl_snn.param import MNIST


@dataclass(frozen=True)
class mnist:
    """The settings of the published program; to change them, edit `param.py`.

    Attributes:
        batch_size: images per step of the optimizer.
        gama: factor of the step size after every epoch.
        lr: step size of Adam.
        epoch: passes over the training set.
        tau: share of the potential that is left after a step.
        time_step: time steps of a presentation.
        num_classes: number of classes.
        alpha: sharpness of the surrogate derivative.
        init_thresh: mean initial threshold.
        train_thresh: the thresholds learn.
        hete_thresh: standard deviation of the initial thresholds, in hundredths.
    """

    batch_size: int = MNIST.batch_size
    gama: float = MNIST.lr_decay
    lr: float = MNIST.lr
    epoch: int = MNIST.epochs

    tau: float = MNIST.tau
    time_step: int = MNIST.steps
    num_classes: int = 10
    alpha: float = MNIST.alpha
    init_thresh: float = MNIST.theta
    train_thresh: bool = True
    hete_thresh: float = 100 * MNIST.spread


mnist_para = mnist()
