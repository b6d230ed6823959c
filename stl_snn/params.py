"""MNIST's settings under their published names; `param.py` holds them, and those of all sets."""

from stl_snn.param import MNIST


class mnist:
    """The settings of the published program.

    Attributes:
        batch_size: images a step of the optimiser.
        gama: factor of the step size behind every epoch.
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

    batch_size = MNIST.batch_size
    gama = MNIST.lr_decay
    lr = MNIST.lr
    epoch = MNIST.epochs

    tau = MNIST.tau
    time_step = MNIST.steps
    num_classes = 10
    alpha = MNIST.alpha
    init_thresh = MNIST.theta
    train_thresh = True
    hete_thresh = 100 * MNIST.spread


mnist_para = mnist()
