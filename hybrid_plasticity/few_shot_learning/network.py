"""The few-shot network: four convolutions, then one plastic layer that meets one sample per step.

An episode shows `ways` characters, `shots` drawings each, with their labels, then a query without:

    z = tanh convolutions of the image, flattened
    I = z (alpha * W^T + (1 - alpha) * H) + 10 label;   V = 0.2 V (1 - s) + I;   s = 1 where V > 0.5
    H <- 0.99 H + min(eta, 0.1) z^T softmax(V - beta)                (HP alone; H = 0 at the start)

and the answer is softmax(V) of the query. * is elementwise. Source: the paper's Methods, few-shot
learning on Omniglot. `reference.py` states the same step by step.

No trace has to be kept to compute that. A sample sees of H what the samples before it left there,

    z_t ((1 - alpha) * H) = sum over j < t of min(eta, 0.1) 0.99^(t-1-j) g_tj * softmax(V_j - beta),
    g_tj = (z_t * z_j) (1 - alpha),

and all g are matrix products taken beforehand, for all episodes at once.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from hybrid_plasticity.neuron import spike
from hybrid_plasticity.precision import without_autocast
from shared.errors import check_word

Rule = Literal["hp", "gp"]

THETA, LENS = 0.5, 0.5
DECAY, TRACE_DECAY = 0.2, 0.99
LABEL_STRENGTH = 10.0
LARGEST_ETA = 0.1
CHANNELS = (128, 128, 128, 128)
SIZE = 31  # pixels of an image's side; the four convolutions leave 2 x 2 of them


class Answer(NamedTuple):
    """What the network makes of n episodes.

    Attributes:
        output: softmax(V) of the query [n, ways].
        post: what each step adds to the trace beside z, softmax(V - beta) [steps, n, ways].
    """

    output: Float[Tensor, "n ways"]
    post: Float[Tensor, "steps n ways"]


class HybridNet(nn.Module):
    """The network, of float32 until it is converted; n episodes at a time, each with its own trace.

    Args:
        rule: "hp", or "gp": the trace stays 0.
        ways: characters per episode.
        channels: of the four convolutions.

    Raises:
        ValueError: the rule is neither.

    The trace is the one above and no other: its closed form is what the network computes. Another
    one is stated in `classify` and `trace`, and in `reference.plastic_step`.

    Attributes:
        conv1, conv2, conv3, conv4: 3 x 3, stride 2, padding 1.
        fc1: the slow weights W [ways, features], without bias; features = 4 * channels[3].
        alpha: share of the slow weight in each synapse, Parameter [features, ways].
        beta: postsynaptic offset of the trace's growth, Parameter [ways].
        eta: rate of the trace's growth, Parameter [1].
    """

    def __init__(self, rule: Rule, ways: int = 5, channels: Sequence[int] = CHANNELS) -> None:
        super().__init__()
        check_word("rule", rule, Rule)
        self.rule = rule

        def convolution(n_in: int, n_out: int) -> nn.Conv2d:
            return nn.Conv2d(n_in, n_out, kernel_size=3, stride=2, padding=1)

        self.conv1 = convolution(1, channels[0])
        self.conv2 = convolution(channels[0], channels[1])
        self.conv3 = convolution(channels[1], channels[2])
        self.conv4 = convolution(channels[2], channels[3])
        features = 4 * channels[3]
        self.fc1 = nn.Linear(features, ways, bias=False)
        self.alpha = nn.Parameter(0.1 * torch.rand(features, ways))
        self.beta = nn.Parameter(0.1 * torch.rand(ways))
        self.eta = nn.Parameter(torch.full((1,), 0.1))

    def local_parameters(self) -> list[nn.Parameter]:
        """What the meta step learns: alpha, beta, eta."""
        return [self.alpha, self.beta, self.eta]

    def global_parameters(self) -> list[nn.Parameter]:
        """What training tasks teach: convolutions and slow weights."""
        local = {id(value) for value in self.local_parameters()}
        return [value for value in self.parameters() if id(value) not in local]

    def forward(
        self, images: Float[Tensor, "steps n 1 31 31"], labels: Float[Tensor, "steps n ways"]
    ) -> Answer:
        """Meet the samples of n episodes one after another.

        Args:
            images: the labeled samples, then the query.
            labels: one-hot, 0 for the query.
        """
        return self.classify(self.features(images), labels)

    def features(
        self, images: Float[Tensor, "steps n 1 31 31"]
    ) -> Float[Tensor, "steps n features"]:
        """The convolutions' output z of all samples of all episodes, in one pass."""
        z = images.flatten(0, 1)
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            z = convolution(z).tanh_()  # in place: no backward pass needs what went in
        return z.reshape(*images.shape[:2], -1)

    @without_autocast
    def classify(
        self, z: Float[Tensor, "steps n features"], labels: Float[Tensor, "steps n ways"]
    ) -> Answer:
        """The plastic layer alone, on the convolutions' output."""
        steps, z = len(z), z.to(self.alpha.dtype)  # autocast may have made it a shorter format
        currents = z @ (self.alpha * self.fc1.weight.T) + LABEL_STRENGTH * labels
        recalled = self._recalled(z) if self.rule == "hp" else None
        potential, post = currents[0], []
        for t in range(steps):
            if t:
                kept = DECAY - DECAY * spike(potential, THETA, LENS)
                potential = torch.addcmul(currents[t], potential, kept)
            post.append((potential - self.beta).softmax(1))
            if recalled is not None:  # what this step leaves in the trace for the later ones
                currents = torch.addcmul(currents, recalled[t], post[t])
        return Answer(potential.softmax(1), torch.stack(post))

    def _recalled(self, z: Float[Tensor, "steps n features"]) -> Float[Tensor, "from to n ways"]:
        """Current into step `to` for a unit of post at step `from`; 0 where it is not later."""
        fast = (1 - self.alpha).T[:, None]
        per_episode = z.transpose(0, 1)[:, None]
        products = (per_episode * fast) @ per_episode.mT  # [n, ways, steps, steps]
        later = torch.arange(len(z), device=z.device)
        wait = (later - later[:, None] - 1).to(z)
        decay = torch.where(wait >= 0, TRACE_DECAY**wait, 0)
        return (products * (self._rate() * decay)).permute(2, 3, 0, 1)

    def _rate(self) -> Float[Tensor, "1"]:
        return torch.where(self.eta > LARGEST_ETA, LARGEST_ETA, self.eta)

    def trace(
        self, z: Float[Tensor, "steps n features"], post: Float[Tensor, "steps n ways"]
    ) -> Float[Tensor, "n features ways"]:
        """The traces H after the last step, from the convolutions' output and `Answer.post`."""
        if self.rule == "gp":
            return post.new_zeros(z.shape[1], z.shape[2], post.shape[2])
        age = torch.arange(len(z) - 1, -1, -1).to(z)
        weighted = post * (self._rate() * TRACE_DECAY**age)[:, None, None]
        return torch.einsum("tnf,tnw->nfw", z, weighted)


def loss_of(output: Float[Tensor, "n ways"], target: Float[Tensor, "n ways"]) -> Float[Tensor, ""]:
    """Binary cross-entropy of the answers, the mean over episodes and ways."""
    # torch's function ends the program where an output is NaN; here the loss becomes NaN.
    known = output.nan_to_num(0.5)
    return functional.binary_cross_entropy(known, target) + 0 * output.sum()
