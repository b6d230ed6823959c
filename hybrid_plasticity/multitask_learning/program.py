"""The multitask experiment: tasks one after the other, and what each leaves of the earlier ones.

The program of `hp_model/`, `gp_model/` and `spiking_ewc/`: each of their scripts names the methods
that are its own.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any

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
    SETTINGS,
    TASKS,
    Method,
)
from hybrid_plasticity.multitask_learning.tasks import Task
from hybrid_plasticity.training import LossWatch, Protocol, adam, load_all, squared_error
from shared import datasets, experiment
from shared.experiment import UNNAMED, Experiment, Named, Positive, paper
from shared.run import Run, progress
from shared.tensors import Samples, global_generators, random_order

QUICK_SAMPLES, QUICK_TASKS, QUICK_EPOCHS = 500, 3, 1


@dataclass(frozen=True)
class Options(experiment.Settings):
    """The command line of a script; each adds its methods."""

    threads: Annotated[Positive[int] | None, UNNAMED] = 1
    """CPU threads; more would wait for each other longer than they work."""
    tasks: Annotated[Positive[int], Named("{}tasks"), paper(TASKS)] = TASKS
    """Pixel-shuffled tasks."""
    epochs: Annotated[Positive[int], paper(EPOCHS)] = EPOCHS
    """Passes over the training set for each task."""

    def chosen(self) -> Method:
        """The method that is asked for."""
        raise NotImplementedError


class Course:
    """A network on its way through the tasks.

    Args:
        options: of the script.
        method: what is done against forgetting.
        data: images and their classes.
        device: it runs on.

    Attributes:
        network: with the weights that the last task ended with.
        parts: all that a checkpoint must hold, by name.
    """

    def __init__(
        self,
        options: Options,
        method: Method,
        data: datasets.Dataset,
        device: torch.device,
    ) -> None:
        self._epochs, self._method, self._device = options.epochs, method, device
        self._training, self._test = (
            Samples.of(part, device).map(lambda pixels: pixels.flatten(1))
            for part in (data.train, data.test)
        )
        self.network = SETTINGS.network(method.rule, method.attenuated).to(device)
        self.parts: dict[str, Any] = {"network": self.network, **global_generators(device)}
        weights = self.network.weights()
        self._penalty = None
        if method.ewc:
            self._penalty = self.parts["penalty"] = Penalty(weights, method.ewc_lambda)
        self._learner: MaskedLearner | DenseLearner
        if method.masks:
            self._learner = MaskedLearner(weights, SETTINGS.lr, self._penalty)
        else:
            self._learner = DenseLearner(self.network, SETTINGS.lr, self._penalty)
        self.parts["learner"] = self._learner
        if local := self.network.local_parameters():
            self._local = adam(local, SETTINGS.lr_local)
            self.parts["local_optimizer"] = self._local
        shapes = [(len(weight), weight.shape[1]) for weight in weights]
        self._tasks = [
            Task(options.seed, number, shapes, SETTINGS.share, device)
            for number in range(options.tasks)
        ]

    def learn(self, number: int) -> dict[str, float]:
        """Learn a task, the weights first and then alpha, beta and eta; its mean losses.

        Args:
            number: of the task, from 0.

        Raises:
            UserError: a loss, a parameter or a trace constant is no longer a number.
        """
        task, size = self._tasks[number], SETTINGS.batch_size
        self._learner.begin(task)
        with _learning(self.network, self.network.weights()):
            for _ in range(self._epochs):
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
                self.network,
                task,
                self._method.masks,
                self._training,
                size,
                self._method.fisher,
                random_order(len(self._training), self._device),
            )
            self._penalty.add_task(fisher, self.network.weights())
        if self._method.rule == "hp" and number < self._method.meta_tasks:
            found["meta_loss"] = self._meta_train(number)
        return found

    def _shown(self, what: str) -> Iterator[tuple[Tensor, Tensor]]:
        """The training set in random order, in batches."""
        order = random_order(len(self._training), self._device)
        batches = self._training.batches(SETTINGS.batch_size, order, drop_last=True)
        return progress(batches, len(batches), what)

    def _meta_train(self, number: int) -> float:
        """An epoch for alpha, beta and eta after a task; its mean loss."""
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
            found.append(int(right) / len(self._test))
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


def train(options: Options, data: datasets.Dataset, device: torch.device, run: Run) -> None:
    """Learn the tasks, test after each, write figures and result."""
    course = Course(options, options.chosen(), data, device)
    before = {key: value.clone() for key, value in course.network.state_dict().items()}
    for number in range(run.restore(**course.parts), options.tasks):
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
    report(options, run, course, before)


def report(options: Options, run: Run, course: Course, before: dict[str, Tensor]) -> None:
    """Test under all protocols, draw the figures and write the result."""
    rows, title = run.metrics(), run.experiment
    matrix = matrix_of(rows)
    means = mean_accuracies(matrix)
    metrics: dict[str, float | None] = {"test_accuracy_last": float(means[-1])}
    if course.network.local_parameters():
        protocols: tuple[Protocol, ...] = ("frozen", "single")
        for protocol in protocols:
            mean = float(np.mean(course.accuracies(options.tasks, protocol)))
            metrics[f"test_accuracy_last_{protocol}"] = mean
        run.save_figure(draw_constants(before, course.network.state_dict(), title), "constants")
    if len(means) >= 10:
        metrics["test_accuracy_first_10_tasks"] = float(means[9])
    metrics["test_accuracy_new_task"] = float(np.diagonal(matrix).mean())
    if len(matrix) > 1:
        metrics["backward_transfer"] = backward_transfer(matrix)
        metrics["forgetting"] = float(forgetting(matrix).mean())
        run.save_figure(draw_forgetting(matrix, title), "forgetting")
    metrics["train_loss_last"] = rows[-1]["train_loss"]
    run.save_figure(draw_matrix(matrix, title), "matrix")
    tasks = draw_tasks({options.chosen().name: [matrix]}, title)
    run.finish(
        epochs=options.epochs,
        metrics=metrics,
        figure=run.save_figure(tasks, "tasks"),
    )


def load(options: Options, device: torch.device) -> datasets.Dataset:
    """MNIST, see `training.load_all`."""
    return load_all("mnist", options, QUICK_SAMPLES)


def session(options: Options, data: str) -> str:
    """How an experiment's name begins: the method's, and the data where they stand in."""
    ending = "" if data == "mnist" else f"_{data}"
    return f"hp_multitask_{options.chosen().name}{ending}"


def experiment_of(
    options: type[Options], description: str | None
) -> Experiment[Options, datasets.Dataset]:
    """A script.

    Args:
        options: class of its command line.
        description: the script's docstring, for --help.
    """

    def defaults(asked: Options) -> Options:
        if not asked.quick:
            return options()
        return replace(options(), tasks=QUICK_TASKS, epochs=QUICK_EPOCHS)

    return Experiment(
        paper="hybrid_plasticity",
        description=description,
        settings=options,
        load=load,
        session=session,
        defaults=defaults,
        grows=lambda asked: False,  # the epochs are those of each task
    )


def run_experiment(options: type[Options], description: str | None) -> None:
    """Read the options of a script, load its data and run it.

    Args:
        options: class of its command line.
        description: the script's docstring, for --help.
    """
    experiment_of(options, description).main(train)
