"""A recurrent network learns precise spike patterns from zero weights (figure 3, and S1).

    python smooth_gd/experiments/rnn/rnn.py                  10,000 trials of AdaBelief
    python smooth_gd/experiments/rnn/rnn.py --line-search    20,000 trials, the supplement's

Ten quadratic integrate-and-fire neurons with one excitatory and one inhibitory Poisson input
each. Two of them are to spike at given times; weights between neurons and states at time 0 are
learned from zero. With the line search, a step is that of 50 lengths which leads to the least loss
while no spike of a target neuron moves by more than 0.5, the shortest where all move one further.
An epoch is 100 trials.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float

from shared.errors import UserError
from shared.experiment import UNNAMED, Experiment, Made, NonNegative, Positive, paper
from shared.options import script
from shared.run import Run
from smooth_gd.experiments import jax_runtime
from smooth_gd.experiments.belief import adabelief
from smooth_gd.experiments.jax_runtime import Device, prepare
from smooth_gd.experiments.rnn import patterns as rnn
from smooth_gd.experiments.rnn.figures import (
    draw_changes,
    draw_learning,
    draw_weights,
    idx_to_color,
    plot_loss,
    plot_spikes,
    plot_spikescomparison,
    plot_times,
)
from smooth_gd.experiments.rnn.patterns import (
    init_input,
    init_target,
    init_weights,
    lossfn,
    outfn,
    simulatefn,
    w_to_weights_net,
    weights_net_to_w,
)
from smooth_gd.experiments.trials import TRIALS, Learning, Trial
from smooth_gd.spikegd.models import AbstractPseudoIFNeuron, Config
from smooth_gd.spikegd.qif import QIFNeuron
from smooth_gd.spikegd.utils import plotting
from smooth_gd.spikegd.utils.checks import check_config, needs_float64

__all__ = [
    "adabelief",
    "idx_to_color",
    "init_input",
    "init_target",
    "init_weights",
    "lossfn",
    "outfn",
    "plot_loss",
    "plot_spikes",
    "plot_spikescomparison",
    "plot_times",
    "run",
    "simulatefn",
    "w_to_weights_net",
    "weights_net_to_w",
]

EPOCHS, LINE_SEARCH_EPOCHS = 100, 200
LR, TRIALS_OF_DECAY = 1e-2, 2000
FACTORS = tuple(float(factor) for factor in 10 ** np.linspace(-5, 2, 50))
LONGEST_MOVE = 0.5


def optimizer(lr: float) -> optax.GradientTransformation:
    """AdaBelief whose step size falls by 1 / e in `TRIALS_OF_DECAY` trials."""
    schedule = optax.exponential_decay(lr, TRIALS_OF_DECAY, 1 / math.e)
    return adabelief(schedule)


def run(
    neuron: AbstractPseudoIFNeuron,
    optim: optax.GradientTransformation,
    config: Config,
    mode: str = "normal",
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train a recurrent network until its target neurons spike at their targets.

    Args:
        neuron: the neuron model.
        optim: the optimizer.
        config: as `patterns.PAPER`, with seed and Ntrial; with mode "grid" also grid, the factors
            of a step, and dt_max, how far a spike of a target neuron may move. K is the number of
            events to begin with.
        mode: "normal", or "grid" for a step of the best length.

    Returns:
        What happened in trials 0 to Ntrial: "p", weights and states before it, "t_out", the spike
        times of each target neuron, "loss"; and "t_targets". And of the first trial, the last, and
        the last without weights onto neurons that are no target neurons: "outs", "t_outs".

    Raises:
        UserError: mode is neither, or config lacks something.
    """
    if mode not in ("normal", "grid"):
        raise UserError(f"mode must be 'normal' or 'grid', not {mode!r}")
    check_config(
        config, *rnn.PAPER, "seed", "Ntrial", *(("grid", "dt_max") if mode == "grid" else ())
    )
    patterns = rnn.make_patterns(config["seed"], config)

    def learner(K: int) -> optax.GradientTransformation:
        if mode == "normal":
            return optim
        return line_search(neuron, patterns, optim, K, config["grid"], config["dt_max"])

    def loss(p: rnn.Parameters, K: int) -> tuple[Array, Trial]:
        value, trial = rnn.loss(neuron, patterns, p, K)
        return value, trial._replace(seen={**trial.seen, "w": p.w, "x0": p.x0})

    n = config["Ntrial"] + 1
    start = rnn.start(config["N"])
    learning = Learning(loss, learner, start, config["K"], trials=min(n, TRIALS))
    history = learning.learn(n)
    metrics = metrics_of(history, patterns)
    metrics["p"] = [list(p) for p in zip(history["w"], history["x0"], strict=True)]
    last = rnn.Parameters(*map(jnp.asarray, metrics["p"][-1]))
    return metrics, examples_of(neuron, patterns, last, learning.K)


def metrics_of(history: dict[str, np.ndarray[Any, Any]], patterns: rnn.Patterns) -> dict[str, Any]:
    """The history of learning under the names of `run`, but for "p"."""
    times = [history[f"times_{i}"] for i in range(len(patterns.targets))]
    t_out = [list(trial) for trial in zip(*times, strict=True)]
    return {"t_out": t_out, "loss": history["loss"], "t_targets": list(patterns.targets)}


def examples_of(
    neuron: AbstractPseudoIFNeuron, patterns: rnn.Patterns, learned: rnn.Parameters, K: int
) -> dict[str, Any]:
    """Trials of three networks under the names of `run`, and their losses as "losses"."""
    n, cut_off = learned.w.shape[0], rnn.without_hidden_weights(learned, len(patterns.targets))
    simulate = jax.jit(lambda p: rnn.simulate_trial(neuron, patterns, p, K))
    found = [simulate(p) for p in (rnn.start(n), learned, cut_off)]
    losses, t_outs, outs = map(list, zip(*found, strict=True))
    return {"outs": outs, "t_outs": t_outs, "losses": losses, "t_targets": list(patterns.targets)}


def line_search(
    neuron: AbstractPseudoIFNeuron,
    patterns: rnn.Patterns,
    belief: optax.GradientTransformation,
    K: int,
    factors: Float[ArrayLike, " n"] | Sequence[float] = FACTORS,
    longest_move: float = LONGEST_MOVE,
) -> optax.GradientTransformation:
    """An optimizer's direction, with the best of some factors.

    Best is the least loss among the steps that move every spike of a target neuron by less than
    `longest_move`; without such a step, the first factor is taken. Standing still would be final:
    the direction grows while gradients repeat.

    Args:
        neuron: of the network.
        patterns: what it learns.
        belief: gives the direction.
        K: number of events of the present trial; the trials after a step may have twice as many.
        factors: of a step.
        longest_move: of a spike.
    """
    K = 2 * K

    def update(gradient: Any, state: Any, parameters: rnn.Parameters) -> tuple[Any, Any]:
        direction, belief_state = belief.update(gradient, state, parameters)
        _, times, _ = rnn.simulate_trial(neuron, patterns, parameters, K)

        def outcome(factor: Array) -> Array:
            moved = optax.apply_updates(parameters, jax.tree.map(lambda d: factor * d, direction))
            loss, new_times, events = rnn.simulate_trial(neuron, patterns, moved, K)
            allowed = rnn.longest_move(times, new_times) < longest_move
            # A step to a trial with more than K events counts as one that is not allowed.
            return jnp.where(allowed & ~jnp.isnan(events.times[0]), loss, jnp.inf)

        tried = jnp.asarray(factors)
        factor = tried[jnp.argmin(jax.vmap(outcome)(tried))]  # the first of equals
        return jax.tree.map(lambda d: factor * d, direction), belief_state

    return optax.GradientTransformation(belief.init, update)


@dataclass(frozen=True)
class Settings(jax_runtime.Settings):
    """The options."""

    seed: Annotated[int, UNNAMED] = rnn.PAPER_SEED
    """Seed of inputs and targets, if --task does not give one, and of --nudge; the paper's figure
    has 7."""
    task: Annotated[int | None, UNNAMED] = None
    """Seed of inputs and targets; without it --seed."""
    line_search: Annotated[bool, UNNAMED] = False
    """As in figure S1."""
    epochs: Annotated[Positive[int], paper(EPOCHS)] = EPOCHS
    """Epochs of 100 trials; paper: 200 with --line-search."""
    nudge: Annotated[NonNegative[float], paper(0.0)] = 0.0
    """Spread of the random numbers, by --seed, that weights and states start from; with 1e-12, runs
    differ by what rounding decides."""
    lr: Annotated[Positive[float], paper(LR)] = LR
    """Step size."""

    @property
    def drawn(self) -> int:
        """Seed of inputs and targets."""
        return self.seed if self.task is None else self.task

    def check(self) -> None:
        """Refuse float32; raises `UserError`."""
        needs_float64("the recurrent network", self.dtype)


def defaults(asked: Settings) -> Settings:
    """What options that are not given start from."""
    full, quick = (LINE_SEARCH_EPOCHS, 1) if asked.line_search else (EPOCHS, 2)
    return replace(Settings(), epochs=quick if asked.quick else full)


def session(settings: Settings, data: str) -> str:
    """How the experiment's name begins; a seed that is not the paper's draws other patterns."""
    words = ["gd_rnn", *(["line-search"] if settings.line_search else [])]
    if settings.drawn != settings.seed:
        words.append(f"task-{settings.drawn}")
    elif settings.drawn != rnn.PAPER_SEED:
        words.append("drawn")
    return "_".join(words)


def published(settings: Settings, data: str) -> dict[str, float] | None:
    """The paper's loss, where patterns, step size and length are the paper's too."""
    full = LINE_SEARCH_EPOCHS if settings.line_search else EPOCHS
    is_paper = (settings.drawn, settings.lr, settings.epochs) == (rnn.PAPER_SEED, LR, full)
    if settings.nudge or not is_paper:
        return None
    return {"loss_last": 6e-5 if settings.line_search else 1.7e-4}


def train(settings: Settings, data: Made, device: Device, run: Run) -> None:
    """Train the network, draw the figures, write the result."""
    neuron, patterns, lr = QIFNeuron(), rnn.make_patterns(settings.drawn), settings.lr
    K = len(patterns.spikes_in[0]) + 40

    def learner(K: int) -> optax.GradientTransformation:
        if settings.line_search:
            return line_search(neuron, patterns, adabelief(lr, b2=0.99), K)
        return optimizer(lr)

    start = rnn.start()
    learning = Learning(
        lambda parameters, K: rnn.loss(neuron, patterns, parameters, K),
        learner,
        rnn.nudged(start, settings.nudge, settings.seed) if settings.nudge else start,
        K,
    )
    epochs = settings.epochs
    learning.run(run, epochs)
    history, learned = learning.history, learning.parameters
    config = {**rnn.PAPER, "Ntrial": epochs * TRIALS}
    examples = examples_of(neuron, patterns, learned, learning.K)
    with plt.style.context(plotting.STYLE):
        drawn = draw_learning(metrics_of(history, patterns), examples, config)
        figure = run.save_figure(drawn, "learning")
    run.save_figure(draw_changes(history["counts"]), "changes")
    run.save_figure(draw_weights(np.asarray(rnn.w_to_weights_net(learned.w))), "weights")
    _, after, cut_off = map(float, examples["losses"])
    changes = np.diff(history["counts"], axis=0)
    run.finish(
        epochs=epochs,
        metrics={
            "loss_first": float(history["loss"][0]),
            "loss_last": after,
            "loss_without_weights_onto_others": cut_off,
            "largest_error_of_a_time": largest_error(history, patterns),
            "spikes_added": float(changes[changes > 0].sum()),
            "spikes_removed": float(-changes[changes < 0].sum()),
            "trials": float(epochs * TRIALS),
            "events_bound": float(learning.K),
        },
        figure=figure,
    )


def largest_error(history: dict[str, np.ndarray[Any, Any]], patterns: rnn.Patterns) -> float:
    """Largest distance of a spike from its target in the last trial."""
    found = [
        np.abs(history[f"times_{i}"][-1, :-1] - target[:-1]).max(initial=0)
        for i, target in enumerate(patterns.targets)
    ]
    return float(max(found))


EXPERIMENT = Experiment(
    paper="smooth_gd",
    description=__doc__,
    settings=Settings,
    load=lambda settings, device: Made("made"),
    session=session,
    defaults=defaults,
    published=published,
    prepare=prepare,
)


def main() -> None:
    """Train the network, or show the result of the run that is there."""
    EXPERIMENT.main(train)


if __name__ == "__main__":
    script(main)
