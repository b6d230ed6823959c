"""A recurrent network learns precise spike patterns from zero weights (figure 3, and S1).

    python smooth_gd/experiments/rnn/rnn.py                  10,000 trials of AdaBelief
    python smooth_gd/experiments/rnn/rnn.py --line-search    20,000 trials, the supplement's

Ten quadratic integrate-and-fire neurons with one excitatory and one inhibitory Poisson input
each. Two of them are to spike at given times; weights between neurons and states at time 0 are
learned from zero. With the line search, a step is that of 50 lengths which leads to the least loss
while no spike of a target neuron moves by more than 0.5, the shortest where all move one further.
An epoch is 100 trials.
"""

import argparse
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from shared.errors import UserError
from shared.options import add_common_options, check_positive, script
from shared.run import Run, carry_out
from smooth_gd.experiments.rnn import task as rnn
from smooth_gd.experiments.rnn.figures import draw_learning, draw_rasters, draw_weights
from smooth_gd.experiments.setup import DEVICES, add_dtype_option, described, prepare
from smooth_gd.experiments.trials import TRIALS, Learning
from smooth_gd.spikegd.qif import QIFNeuron
from smooth_gd.spikegd.utils.checks import needs_float64

EPOCHS, LINE_SEARCH_EPOCHS = 100, 200
LR, TRIALS_OF_DECAY = 1e-2, 2000
FACTORS = tuple(float(factor) for factor in 10 ** np.linspace(-5, 2, 50))
LONGEST_MOVE = 0.5


def optimiser(lr: float) -> optax.GradientTransformation:
    """AdaBelief whose step size falls by 1 / e in `TRIALS_OF_DECAY` trials."""
    schedule = optax.exponential_decay(lr, TRIALS_OF_DECAY, 1 / math.e)
    made: optax.GradientTransformation = optax.adabelief(schedule)
    return made


def line_search(
    neuron: QIFNeuron, task: rnn.Task, lr: float, K: int
) -> optax.GradientTransformation:
    """AdaBelief's direction, with the best of `FACTORS` times lr as step.

    Best is the least loss among the steps that move no spike of a target neuron by more than
    `LONGEST_MOVE`; without such a step, the shortest is taken. Standing still would be final: the
    direction grows while gradients repeat.

    Args:
        neuron: of the network.
        task: what it learns.
        lr: step size that the factors multiply.
        K: number of events of the present trial; the trials behind a step may have twice as many.
    """
    belief, K = optax.adabelief(lr, b2=0.99), 2 * K

    def tried(parameters: rnn.Parameters) -> tuple[Array, list[Array], Array]:
        loss, times, events = rnn.simulate_trial(neuron, task, parameters, K)
        return loss, times, events.times[0]

    def update(gradient: Any, state: Any, parameters: rnn.Parameters) -> tuple[Any, Any]:
        direction, belief_state = belief.update(gradient, state, parameters)
        _, times, _ = tried(parameters)
        factors = jnp.asarray(FACTORS)

        def outcome(factor: Array) -> Array:
            moved = optax.apply_updates(parameters, jax.tree.map(lambda d: factor * d, direction))
            new_loss, new_times, start = tried(moved)
            allowed = rnn.longest_move(times, new_times) < LONGEST_MOVE
            # A step to a trial with more than K events counts as one that is not allowed.
            return jnp.where(allowed & ~jnp.isnan(start), new_loss, jnp.inf)

        losses = jax.vmap(outcome)(factors)
        factor = factors[jnp.argmin(losses)]  # the first, and shortest, of equals
        return jax.tree.map(lambda d: factor * d, direction), belief_state

    return optax.GradientTransformation(belief.init, update)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_options(parser, "gd_rnn", None, threads=1, devices=DEVICES)
    parser.set_defaults(seed=rnn.PAPER_SEED)
    parser.add_argument("--task", type=int, help="seed of inputs and targets (default: --seed)")
    parser.add_argument(
        "--nudge",
        type=float,
        default=0.0,
        help="spread of the random numbers, by --seed, that weights and states start from "
        "(default and paper: 0); with 1e-12, runs differ by what rounding decides",
    )
    parser.add_argument(
        "--epochs",
        type=int,
        help=f"epochs of {TRIALS} trials (default and paper: {EPOCHS}, or {LINE_SEARCH_EPOCHS} "
        "with --line-search)",
    )
    add_dtype_option(parser, "float64")
    parser.add_argument("--lr", type=float, default=LR, help="step size (paper: 1e-2)")
    parser.add_argument("--line-search", action="store_true", help="as in figure S1")
    args = parser.parse_args()
    needs_float64("the recurrent network", args.dtype)
    if args.epochs is None:
        args.epochs = LINE_SEARCH_EPOCHS if args.line_search else EPOCHS
    if args.task is None:
        args.task = args.seed
    check_positive(epochs=args.epochs, lr=args.lr)
    if not 0 <= args.nudge < math.inf:
        raise UserError(f"--nudge {args.nudge} must be at least 0 and finite")
    return args


def name_of(args: argparse.Namespace) -> str:
    """Name of the experiment; a seed that is not the paper's draws another task."""
    words = ["gd_rnn", *(["line-search"] if args.line_search else [])]
    if args.task != args.seed:
        words.append(f"task-{args.task}")
    elif args.task != rnn.PAPER_SEED:
        words.append("drawn")
    if args.nudge:
        words.append(f"nudge-{args.nudge:g}")
    if args.lr != LR:
        words.append(f"lr-{args.lr}")
    return "_".join([*words, "quick"] if args.quick else words)


def published(args: argparse.Namespace) -> dict[str, float] | None:
    """The paper's loss, where task, step size and length are the paper's too."""
    full = LINE_SEARCH_EPOCHS if args.line_search else EPOCHS
    is_paper = args.task == rnn.PAPER_SEED and args.lr == LR and args.epochs == full
    if args.quick or args.nudge or not is_paper:
        return None
    return {"loss_last": 6e-5 if args.line_search else 1.7e-4}


def train(args: argparse.Namespace, run: Run) -> None:
    """Train the network, draw the figures, write the result."""
    neuron, task = QIFNeuron(), rnn.make_task(args.task)
    K = len(task.spikes_in[0]) + 40

    def learner(K: int) -> optax.GradientTransformation:
        return line_search(neuron, task, args.lr, K) if args.line_search else optimiser(args.lr)

    learning = Learning(
        lambda parameters, K: rnn.loss(neuron, task, parameters, K),
        learner,
        rnn.nudged(rnn.start(), args.nudge, args.seed) if args.nudge else rnn.start(),
        K,
    )
    epochs = min(args.epochs, 2) if args.quick else args.epochs
    learning.run(run, epochs)
    history, learned = learning.history, learning.parameters
    figure = run.save_figure(draw_learning(history, task, rnn.T), "learning")
    cut_off = rnn.without_hidden_weights(learned, len(task.targets))
    shown = {
        "before learning": rnn.start(),
        "after learning": learned,
        "after learning, without the weights onto the other neurons": cut_off,
    }
    simulate = jax.jit(lambda p, K: rnn.simulate_trial(neuron, task, p, K)[2], static_argnums=1)
    measure = jax.jit(lambda p, K: rnn.loss(neuron, task, p, K)[0], static_argnums=1)
    rasters = {words: simulate(parameters, learning.K) for words, parameters in shown.items()}
    run.save_figure(draw_rasters(rasters, task, rnn.T), "raster")
    run.save_figure(draw_weights(np.asarray(rnn.w_to_weights_net(learned.w))), "weights")
    losses = {words: float(measure(p, learning.K)) for words, p in shown.items()}
    changes = np.diff(history["counts"], axis=0)
    run.finish(
        experiment=name_of(args),
        paper="smooth_gd",
        dataset="made",
        epochs=epochs,
        metrics={
            "loss_first": float(history["loss"][0]),
            "loss_last": losses["after learning"],
            "loss_without_weights_onto_others": losses[
                "after learning, without the weights onto the other neurons"
            ],
            "largest_error_of_a_time": largest_error(history, task),
            "spikes_added": float(changes[changes > 0].sum()),
            "spikes_removed": float(-changes[changes < 0].sum()),
            "trials": float(epochs * TRIALS),
            "events_bound": float(learning.K),
        },
        published=published(args),
        figure=figure,
    )


def largest_error(history: dict[str, np.ndarray[Any, Any]], task: rnn.Task) -> float:
    """Largest distance of a spike from its target in the last trial."""
    found = [
        np.abs(history[f"times_{i}"][-1, :-1] - target[:-1]).max(initial=0)
        for i, target in enumerate(task.targets)
    ]
    return float(max(found))


def main() -> None:
    """Train the network, or show the result of the run that is there."""
    args = parse()
    device = prepare(args)
    carry_out(args, name_of(args), described(device), lambda run: train(args, run))


if __name__ == "__main__":
    script(main)
