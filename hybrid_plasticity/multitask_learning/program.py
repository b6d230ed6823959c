"""The multitask experiment: tasks one after the other, and what each leaves of the earlier ones.

The program behind `hp_model/`, `gp_model/` and `spiking_ewc/`: each of their scripts names the
methods that are its own.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hybrid_plasticity.checks import check_network
from hybrid_plasticity.figures import draw_constants
from hybrid_plasticity.multitask_learning.ewc import Penalty, fisher_diagonal
from hybrid_plasticity.multitask_learning.figures import draw_forgetting, draw_matrix, draw_tasks
from hybrid_plasticity.multitask_learning.learners import DenseLearner, MaskedLearner
from hybrid_plasticity.multitask_learning.scores import (
    Matrix,
    backward_transfer,
    forgetting,
    mean_accuracies,
)
from hybrid_plasticity.multitask_learning.shared_parameters import (
    EPOCHS,
    EWC_LAMBDA,
    META_TASKS,
    SETTINGS,
    TASKS,
    Method,
)
from hybrid_plasticity.multitask_learning.tasks import Images, Task
from hybrid_plasticity.training import LossWatch, Protocol, adam, generators, squared_error
from shared import datasets
from shared.device import prepare
from shared.errors import UserError
from shared.options import add_common_options, check_positive
from shared.run import Run, carry_out, progress

QUICK_SAMPLES, QUICK_TASKS = 1000, 3


class Course:
    """A network on its way through the tasks.

    Args:
        args: the options.
        method: what is done against forgetting.
        data: pixels and labels.
        device: it runs on.

    Attributes:
        network: with the weights that the last task ended with.
        parts: all that a checkpoint must hold, by name.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        method: Method,
        data: datasets.Dataset,
        device: torch.device,
    ) -> None:
        self._args, self._method, self._device = args, method, device
        self._training, self._test = Images(data.train, device), Images(data.test, device)
        self.network = SETTINGS.network(method.rule, method.attenuated).to(device)
        self.parts: dict[str, Any] = {"network": self.network, **generators(device)}
        weights = self.network.weights()
        self._penalty = None
        if method.ewc:
            self._penalty = self.parts["penalty"] = Penalty(weights, args.ewc_lambda)
        self._learner: MaskedLearner | DenseLearner
        if method.masks and not method.ewc:
            self._learner = MaskedLearner(weights, SETTINGS.lr)
        else:
            self._learner = DenseLearner(self.network, SETTINGS.lr, method.masks, self._penalty)
        self.parts["learner"] = self._learner
        if local := self.network.local_parameters():
            self._local = adam(local, SETTINGS.lr_local)
            self.parts["local_optimizer"] = self._local
        shapes = [(len(weight), weight.shape[1]) for weight in weights]
        self._tasks = [
            Task(args.seed, number, shapes, SETTINGS.share, device) for number in range(args.tasks)
        ]

    def learn(self, number: int) -> dict[str, float]:
        """Learn a task, the weights first and then alpha, beta and eta; its mean losses.

        Args:
            number: of the task, from 0.

        Raises:
            UserError: a loss is no number any more.
        """
        task, size = self._tasks[number], SETTINGS.batch_size
        self._learner.begin(task)
        with _learning(self.network, self.network.weights()):
            for _ in range(self._args.epochs):
                watch = LossWatch(self._method.rule)
                for pixels, labels in self._shown(f"task {number + 1}"):
                    output = self.network(task.inputs(pixels), self._learner.connections())
                    loss = squared_error(output, labels)
                    self._learner.step(loss)
                    watch.add(loss)
        self._learner.end()
        found = {"train_loss": watch.mean()}
        check_network(self.network)
        if self._penalty is not None:
            fisher = fisher_diagonal(
                self.network, task, self._method.masks, self._training, size, self._args.fisher
            )
            self._penalty.add_task(fisher, self.network.weights())
        if self._method.rule == "hp" and number < self._args.meta_tasks:
            found["meta_loss"] = self._meta_train(number)
        return found

    def _shown(self, what: str) -> Iterator[tuple[Tensor, Tensor]]:
        """The training set in random order, in batches."""
        size = SETTINGS.batch_size
        n_batches = len(self._training.labels) // size
        return progress(self._training.shuffled(size), n_batches, what)

    def _meta_train(self, number: int) -> float:
        """An epoch for alpha, beta and eta behind a task; its mean loss."""
        watch = LossWatch(self._method.rule)
        with _learning(self.network, self.network.local_parameters()):
            for pixels, labels in self._shown(f"meta training {number + 1}"):
                drawn = number
                if self._method.replay and number > 0:
                    drawn = int(torch.randint(number, ()))
                task = self._tasks[drawn]
                output = self.network(task.inputs(pixels), self.network.connections(task.masks))
                loss = squared_error(output, labels)
                self._local.zero_grad()
                torch.autograd.backward(loss)
                self._local.step()
                watch.add(loss)
        mean = watch.mean()
        check_network(self.network)
        return mean

    @torch.no_grad()
    def accuracies(self, n_tasks: int, protocol: Protocol = "published") -> list[float]:
        """Accuracy on each of the first tasks, whose number the network is told.

        Args:
            n_tasks: so many tasks.
            protocol: "published" tests batches in order, as large as in training, each starting
                with traces of 0; "frozen" leaves traces at 0; "single" gives each sample a trace of
                its own, as batches of one do.
        """
        found = []
        for task in self._tasks[:n_tasks]:
            connections = self.network.connections(task.masks if self._method.masks else None)
            right = torch.zeros((), dtype=torch.int64, device=self._device)
            for pixels, labels in self._test.batches(SETTINGS.batch_size):
                output = self.network(task.inputs(pixels), connections, protocol)
                right += (output.argmax(1) == labels).sum()
            found.append(int(right) / len(self._test.labels))
        return found


@contextmanager
def _learning(network: nn.Module, chosen: Iterable[nn.Parameter]) -> Iterator[None]:
    """Take gradients of some parameters only."""
    wanted = {id(parameter) for parameter in chosen}
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in wanted)
    try:
        yield
    finally:
        network.requires_grad_(True)


def matrix_of(rows: Sequence[dict[str, float]]) -> Matrix:
    """Accuracies [after task, on task] of a run's metrics; NaN for tasks that came later."""
    matrix = np.full((len(rows), len(rows)), np.nan)
    for i, row in enumerate(rows):
        matrix[i, : i + 1] = [row[f"accuracy_{k + 1}"] for k in range(i + 1)]
    return matrix


def train(
    args: argparse.Namespace,
    method: Method,
    name: str,
    run: Run,
    data: datasets.Dataset,
    device: torch.device,
) -> None:
    """Learn the tasks, test behind each, write figures and result."""
    course = Course(args, method, data, device)
    before = {key: value.clone() for key, value in course.network.state_dict().items()}
    for number in range(run.restore(**course.parts), args.tasks):
        row = course.learn(number)
        seen = course.accuracies(number + 1)
        row |= {"test_accuracy": float(np.mean(seen))}
        print(
            f"task {number + 1:3d}  " + "  ".join(f"{k} {v:.4g}" for k, v in row.items()),
            flush=True,
        )
        row |= {f"accuracy_{k + 1}": value for k, value in enumerate(seen)}
        run.log(number + 1, row, show=False)
        run.checkpoint(number + 1, **course.parts)
    report(args, name, run, data, course, before)


def report(
    args: argparse.Namespace,
    name: str,
    run: Run,
    data: datasets.Dataset,
    course: Course,
    before: dict[str, Tensor],
) -> None:
    """Test under all protocols, draw the figures and write the result."""
    rows = run.metrics()
    matrix = matrix_of(rows)
    means = mean_accuracies(matrix)
    metrics: dict[str, float | None] = {"test_accuracy_last": float(means[-1])}
    if course.network.local_parameters():
        protocols: tuple[Protocol, ...] = ("frozen", "single")
        for protocol in protocols:
            mean = float(np.mean(course.accuracies(args.tasks, protocol)))
            metrics[f"test_accuracy_last_{protocol}"] = mean
        run.save_figure(draw_constants(before, course.network.state_dict(), name), "constants")
    if len(means) >= 10:
        metrics["test_accuracy_first_10_tasks"] = float(means[9])
    metrics["test_accuracy_new_task"] = float(np.diagonal(matrix).mean())
    if len(matrix) > 1:
        metrics["backward_transfer"] = backward_transfer(matrix)
        metrics["forgetting"] = float(forgetting(matrix).mean())
        run.save_figure(draw_forgetting(matrix, name), "forgetting")
    metrics["train_loss_last"] = rows[-1]["train_loss"]
    run.save_figure(draw_matrix(matrix, name), "matrix")
    run.finish(
        experiment=name,
        paper="hybrid_plasticity",
        dataset=data.name,
        epochs=args.epochs,
        metrics=metrics,
        figure=run.save_figure(draw_tasks({name: matrix}, name), "tasks"),
    )


def experiment_name(args: argparse.Namespace, method: Method, dataset: str) -> str:
    """Name of a run: the method's, with what differs from the paper behind it."""
    words = [f"hp_multitask_{method.name}"]
    if dataset != "mnist":
        words.append(dataset)
    if args.tasks != TASKS:
        words.append(f"{args.tasks}tasks")
    if method.rule == "hp" and args.meta_tasks != META_TASKS:
        words.append(f"meta-{args.meta_tasks}")
    if method.ewc:
        words += [f"fisher-{args.fisher}"] if args.fisher != "sample" else []
        words += [f"lambda-{args.ewc_lambda:g}"] if args.ewc_lambda != EWC_LAMBDA else []
    return "_".join([*words, *(["quick"] if args.quick else [])])


def run_experiment(methods: Sequence[Method], description: str | None) -> None:
    """Read the options of a script, load its data and run it.

    Args:
        methods: what the script offers; the first is the default.
        description: the script's docstring, for --help.
    """
    args = _options(methods, description)
    method = next(method for method in methods if method.name == args.method)
    device = prepare(args.device, args.seed, args.threads, args.deterministic)
    # Nothing is chosen by validation: the settings are the paper's, the epoch is the last.
    data = datasets.load("mnist", args.data_root, validation=0, fallback=True)
    name = experiment_name(args, method, data.name)
    if args.quick:
        data = data.first(QUICK_SAMPLES)
        args.tasks, args.epochs = min(args.tasks, QUICK_TASKS), min(args.epochs, 1)
    do = partial(train, args, method, name, data=data, device=device)
    carry_out(args, name, device, do, data.fingerprint)


def _options(methods: Sequence[Method], description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [method.name for method in methods]
    parser.add_argument(
        "--method",
        choices=names,
        default=names[0],
        help=f"see above (default and paper: {names[0]})",
    )
    parser.add_argument(
        "--tasks",
        type=int,
        default=TASKS,
        help=f"pixel-shuffled tasks (default and paper: {TASKS})",
    )
    if any(method.rule == "hp" for method in methods):
        parser.add_argument(
            "--meta-tasks",
            type=int,
            default=META_TASKS,
            help="so many tasks have an epoch of meta training behind them (default and paper: "
            f"{META_TASKS}); 0 leaves alpha, beta and eta as they start",
        )
    if any(method.ewc for method in methods):
        parser.add_argument(
            "--ewc-lambda",
            type=float,
            default=EWC_LAMBDA,
            help=f"strength of the penalty (default and paper: {EWC_LAMBDA:g})",
        )
        parser.add_argument(
            "--fisher",
            choices=("sample", "batch"),
            default="sample",
            help="Fisher information from the gradient of each sample (default), or from those of "
            "batches, divided by their number less one (paper)",
        )
    add_common_options(parser, f"hp_multitask_{names[0]}", EPOCHS, threads=1)
    args = parser.parse_args()
    check_positive(
        tasks=args.tasks, epochs=args.epochs, ewc_lambda=getattr(args, "ewc_lambda", None)
    )
    if getattr(args, "meta_tasks", 0) < 0:
        raise UserError(f"--meta-tasks {args.meta_tasks} must be 0 or above")
    return args
