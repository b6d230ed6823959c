"""Modules that put a learning mode into a network: teaching signals and fixed feedback weights."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from brp_snn.function import FeedbackAlignment, ReplaceGradient

Mode = Literal["BRP", "BP", "FA", "DFA", "DRTP", "sDFA", "shallow"]
"""Learning modes; BRP is direct random target projection (DRTP) in a spiking network."""

MODES: tuple[Mode, ...] = get_args(Mode)

OF_TARGETS: dict[Mode, Callable[[Tensor], Tensor]] = {
    "BRP": lambda targets: targets,
    "DRTP": lambda targets: targets,
}
"""What is projected to the hidden layers, from the targets alone, both [batch, classes]."""

OF_READOUT: dict[Mode, Callable[[Tensor, Tensor], Tensor]] = {
    "DFA": lambda output, targets: output - targets,
    "sDFA": lambda output, targets: (output - targets).sign(),
}
"""The same from readout and targets, which waits for the end of the presentation."""

PROJECTED: tuple[Mode, ...] = (*OF_TARGETS, *OF_READOUT)
"""Modes that project a signal of the output's size to every hidden layer."""

LOCAL: tuple[Mode, ...] = (*OF_TARGETS, "shallow")
"""Modes whose hidden layers need to know nothing of the network's output."""


class Teacher:
    """What the hidden layers of a network are taught by, in one presentation.

    Args:
        mode: the learning mode.
        feedback_stream: of the fixed feedback weights; None for torch's own stream.

    Attributes:
        mode, feedback_stream: the same.
        targets: [batch, classes], one-hot labels or the values to regress.
        output: [batch, classes], the readout; None until the presentation is over.
    """

    def __init__(self, mode: Mode, feedback_stream: torch.Generator | None = None) -> None:
        self.mode, self.feedback_stream = mode, feedback_stream
        self.targets: Tensor | None = None
        self.output: Tensor | None = None

    def present(self, targets: Tensor | None) -> None:
        """Start a presentation; without targets nothing can be learned from it."""
        self.targets, self.output = targets, None

    def signal(self, feedback: Float[Tensor, "classes *units"]) -> Float[Tensor, "batch *units"]:
        """What stands for the gradient on a hidden layer's spikes, the same at every time step.

        Raises:
            RuntimeError: the mode needs a readout and there is none yet.
        """
        if self.targets is None:
            raise RuntimeError("a teaching signal was asked for before `present`")
        if self.mode in OF_TARGETS:
            taught = OF_TARGETS[self.mode](self.targets)
        elif self.output is None:
            raise RuntimeError(f"{self.mode} needs the readout, which is not there yet")
        else:
            taught = OF_READOUT[self.mode](self.output.detach(), self.targets)
        units = feedback.shape[1:]
        return (taught.to(feedback) @ feedback.flatten(1)).view(len(taught), *units)


class TrainingHook(nn.Module):
    """Passes a hidden layer's activity on and gives its gradient back as the mode has it.

    Args:
        teacher: holds mode, targets and readout.
        n_classes: size of the network's output.
        units: shape of the layer's units.

    Attributes:
        fixed_fb_weights: [classes, *units], Kaiming-uniform, never trained; in the modes that
            project a signal.
    """

    def __init__(self, teacher: Teacher, n_classes: int, units: tuple[int, ...]) -> None:
        super().__init__()
        self.teacher = teacher
        self.fixed_fb_weights: Tensor
        if teacher.mode in PROJECTED:
            feedback = torch.empty(n_classes, *units)
            nn.init.kaiming_uniform_(feedback, generator=teacher.feedback_stream)
            self.register_buffer("fixed_fb_weights", feedback)

    def forward(self, activity: Tensor) -> Tensor:
        """The activity, [batch, *units]."""
        mode = self.teacher.mode
        if mode in ("BP", "FA"):
            return activity
        if mode == "shallow":
            return activity.detach()
        return ReplaceGradient.apply(  # type: ignore[no-any-return]
            activity, lambda: self.teacher.signal(self.fixed_fb_weights)
        )


class FA_wrapper(nn.Module):
    """A linear map or convolution whose gradient goes back through fixed random weights.

    Args:
        module: nn.Linear, nn.Conv1d or nn.Conv2d.
        feedback_stream: of the fixed weights; None for torch's own stream.

    Attributes:
        module: the same.
        fixed_fb_weights: Kaiming-uniform, the shape of the module's weight, never trained.
    """

    def __init__(
        self,
        module: nn.Linear | nn.Conv1d | nn.Conv2d,
        feedback_stream: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        feedback = torch.empty_like(module.weight)
        nn.init.kaiming_uniform_(feedback, generator=feedback_stream)
        self.fixed_fb_weights: Tensor
        self.register_buffer("fixed_fb_weights", feedback)

    def forward(self, x: Tensor) -> Tensor:
        """What the module gives."""
        stride, padding = 1, 0
        if not isinstance(self.module, nn.Linear):
            stride, padding = self.module.stride[0], int(self.module.padding[0])
        current: Tensor = FeedbackAlignment.apply(
            x, self.module.weight, self.fixed_fb_weights, stride, padding
        )
        assert self.module.bias is not None
        return current + self.module.bias.view(-1, *(1,) * (current.dim() - 2))
