"""Modules that put a learning mode into a network: teaching signals and fixed feedback weights."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from brp_snn.function import (
    MODES,
    PROJECTED,
    FeedbackAlignment,
    Mode,
    teaching_signal,
    trainingHook,
)
from shared.errors import check_word

__all__ = ["FA_wrapper", "Mode", "TrainingHook"]


class TrainingHook(nn.Module):
    """Passes a hidden layer's activity on and gives its gradient back as the mode has it.

    Args:
        label_features: size of the network's output.
        dim_hook: shape of the feedback weights, [label_features, *units], in the modes that project
            a signal; others do not look at it.
        train_mode: the learning mode.
        feedback_stream: of the feedback weights; None for torch's own stream.

    Attributes:
        train_mode: the same.
        fixed_fb_weights: of that shape, Kaiming-uniform, U(-sqrt(6/n), sqrt(6/n)) with n the number
            of the layer's units, never trained; None in the modes that project no signal.

    Raises:
        ValueError: there is no such mode, or dim_hook does not start with label_features.
    """

    def __init__(
        self,
        label_features: int,
        dim_hook: Sequence[int] | None,
        train_mode: Mode,
        feedback_stream: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_word("mode", train_mode, MODES)
        self.train_mode = train_mode
        self.fixed_fb_weights: Tensor
        feedback = None
        if train_mode in PROJECTED:
            if not dim_hook or dim_hook[0] != label_features:
                raise ValueError(
                    f"dim_hook {dim_hook} must start with label_features {label_features}"
                )
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
        module: nn.Linear, nn.Conv1d or nn.Conv2d, with or without bias; convolutions not dilated,
            in one group, padded by zeros.
        layer_type: "fc" or "conv", by the published call. It and the next three are the module's;
            None leaves them to it.
        dim: shape of the weights.
        stride: of the convolution.
        padding: of the convolution.
        feedback_stream: of the fixed weights; None for torch's own stream.

    Attributes:
        module: the same.
        fixed_fb_weights: Kaiming-uniform, the shape of the module's weight, never trained.

    Raises:
        ValueError: one of them is not the module's, or the convolution is another one.
    """

    def __init__(
        self,
        module: nn.Linear | nn.Conv1d | nn.Conv2d,
        layer_type: str | None = None,
        dim: Sequence[int] | None = None,
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] | None = None,
        *,
        feedback_stream: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        self._stride, self._padding = _geometry(module)
        _check_same("layer_type", layer_type, "fc" if isinstance(module, nn.Linear) else "conv")
        _check_same("dim", None if dim is None else tuple(dim), tuple(module.weight.shape))
        _check_same("stride", _each(stride, self._stride), self._stride)
        _check_same("padding", _each(padding, self._padding), self._padding)
        feedback = torch.empty_like(module.weight)
        nn.init.kaiming_uniform_(feedback, generator=feedback_stream)
        self.fixed_fb_weights: Tensor
        self.register_buffer("fixed_fb_weights", feedback)

    def forward(self, x: Tensor) -> Tensor:
        """What the module gives."""
        current: Tensor = FeedbackAlignment.apply(
            x, self.module.weight, self.fixed_fb_weights, self._stride, self._padding
        )
        if self.module.bias is None:
            return current
        return current + self.module.bias.view(-1, *(1,) * (current.dim() - 2))


def _geometry(
    module: nn.Linear | nn.Conv1d | nn.Conv2d,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Stride and padding along each axis; of a linear map none."""
    if isinstance(module, nn.Linear):
        return (), ()
    padding = module.padding
    plain = module.groups == 1 and set(module.dilation) == {1} and module.padding_mode == "zeros"
    if isinstance(padding, str) or not plain:
        raise ValueError(
            f"{module}: no feedback alignment of groups, dilation, or padding by words or by other "
            "than zeros; take a convolution without them"
        )
    return tuple(module.stride), tuple(padding)


def _each(value: int | Sequence[int] | None, like: tuple[int, ...]) -> tuple[int, ...] | None:
    """A number for every axis."""
    if isinstance(value, int):
        return (value,) * len(like)
    return None if value is None else tuple(value)


def _check_same(name: str, given: object, own: object) -> None:
    if given is not None and given != own:
        raise ValueError(f"{name} {given} is not the module's, {own}: leave it out")
