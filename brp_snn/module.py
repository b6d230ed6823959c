"""Modules that put a learning mode into a network: teaching signals and fixed feedback weights."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from brp_snn.function import (
    PROJECTED,
    FeedbackAlignment,
    Mode,
    teaching_signal,
    trainingHook,
)

__all__ = ["FA_wrapper", "Mode", "TrainingHook"]


class TrainingHook(nn.Module):
    """Passes a hidden layer's activity on and gives its gradient back as the mode has it.

    Args:
        label_features: size of the network's output.
        dim_hook: shape of the feedback weights, [label_features, *units].
        train_mode: the learning mode.
        feedback_stream: of the feedback weights; None for torch's own stream.

    Attributes:
        train_mode: the same.
        fixed_fb_weights: of that shape, Kaiming-uniform, U(-sqrt(6/n), sqrt(6/n)) with n the number
            of the layer's units, never trained; in the modes that project a signal.

    Raises:
        ValueError: the first number of dim_hook is not label_features.
    """

    def __init__(
        self,
        label_features: int,
        dim_hook: Sequence[int],
        train_mode: Mode,
        feedback_stream: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if dim_hook[0] != label_features:
            raise ValueError(f"dim_hook {dim_hook} must start with label_features {label_features}")
        self.train_mode = train_mode
        self.fixed_fb_weights: Tensor
        if train_mode in PROJECTED:
            feedback = torch.empty(*dim_hook)
            nn.init.kaiming_uniform_(feedback, generator=feedback_stream)
            self.register_buffer("fixed_fb_weights", feedback)

    def forward(
        self,
        input: Float[Tensor, "batch *units"],
        labels: Float[Tensor, "batch classes"] | None,
        y: Float[Tensor, "batch classes"] | None,
    ) -> Float[Tensor, "batch *units"]:
        """The input; y, where the mode needs it, is filled before the backward pass comes."""
        if self.train_mode in ("BP", "FA"):
            return input
        if self.train_mode == "shallow":
            return input.detach()
        feedback = self.fixed_fb_weights
        found: Tensor = trainingHook(input, labels, y, feedback, self.train_mode)
        return found

    def signal(
        self, labels: Float[Tensor, "batch classes"], y: Float[Tensor, "batch classes"] | None
    ) -> Float[Tensor, "batch *units"]:
        """What stands for the gradient of the layer's activity; see `teaching_signal`."""
        return teaching_signal(self.train_mode, labels, y, self.fixed_fb_weights)


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
