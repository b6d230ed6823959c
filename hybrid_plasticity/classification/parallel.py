"""The classifiers for several processes that train one network, see `shared.parallel`.

A trace is a mean over the batch, and it acts on its own growth from step to step: at every step the
processes add up what their samples contribute, [n_in, n_out] numbers of each plastic layer, and in
the backward pass the gradient of it. That a presentation ends early is decided on all samples. In a
test each process has all samples, and these classes are those that they extend.
"""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from hybrid_plasticity.classification.network import KEPT, Classifier, Rule
from hybrid_plasticity.classification.wiring import Wiring
from hybrid_plasticity.trace import Hebbian
from shared import parallel


class SharedHebbian(Hebbian):
    """A trace that grows by the samples of all processes."""

    def updated(
        self,
        trace: Float[Tensor, "n_in n_out"],
        pre: Float[Tensor, "batch n_in"],
        post: Float[Tensor, "batch n_out"],
    ) -> Float[Tensor, "n_in n_out"]:
        """See `Hebbian.updated`; pre and post are of this process's samples."""
        share = parallel.current()
        if share is None:
            return super().updated(trace, pre, post)
        grown = parallel.added(pre.T @ post)
        new = torch.add(self.decay * trace, grown, alpha=self.scale / share.total)
        return new if self.limit is None else new.clamp(-self.limit, self.limit)


class SharedClassifier(Classifier):
    """A classifier whose processes show a share of each batch; arguments as in `Classifier`."""

    def __init__(self, wiring: Wiring, rule: Rule = "hp") -> None:
        hebbian = SharedHebbian(**dataclasses.asdict(wiring.hebbian))
        super().__init__(dataclasses.replace(wiring, hebbian=hebbian), rule)

    def dropped(self, x: Float[Tensor, "..."], k: float = 1.0) -> Float[Tensor, "..."]:
        """See `Classifier.dropped`; what is dropped is drawn for the whole batch."""
        return x * parallel.drawn(torch.rand_like, x).lt_(KEPT).mul_(k / KEPT)

    def decided(self, potential: Float[Tensor, "batch classes"]) -> bool:
        """See `Classifier.decided`; the samples of all processes count."""
        share = parallel.current()
        if share is None or self.exit_share is None or self.wiring.coding == "rate":
            return super().decided(potential)
        above = (potential.detach().amax(1) > self.wiring.neuron.theta).sum()
        return int(parallel.added(above)) / share.total > self.exit_share
