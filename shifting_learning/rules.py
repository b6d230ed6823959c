"""The learning rules: what turns the errors of a layer's outputs into changes and feedback.

With the error d_j of output j, its passing time p_j, its code z_j = p_j u_j and the divisor
S(C_j) - 1 of its causal set, a rule states

    g_ij = sum_batch a_j (z_i - c_j) m_ij     timings: the factor a_j and the code c_j
    g_j  = sum_batch e_j c_j                  passing times: e_j, what is left of the error
    d_i  = sum_j b_j m_ij s_ij                the errors sent back: the feedback b_j

A rule is one object in `RULES`; its word there is what `SNNLayer(rule=...)` and --rule take.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor


class LearningRule:
    """The paper's rule: a_j = d_j exp(p_j), c_j = z_j, b_j = d_j. Others state what differs.

    Attributes:
        silent_learn: whether neurons without a spike learn, where the layer treats them as
            published.
        silent_divisor: whether such a neuron then has the divisor of its earliest input; else it is
            infinite.
    """

    silent_learn: ClassVar[bool] = True
    silent_divisor: ClassVar[bool] = False

    def error(
        self, d: Float[Tensor, "N out"], divisor: Float[Tensor, "N out"]
    ) -> Float[Tensor, "N out"]:
        """What is left of the errors, e_j."""
        return d

    def factor(
        self, e: Float[Tensor, "N out"], p: Float[Tensor, "N out"], divisor: Float[Tensor, "N out"]
    ) -> Float[Tensor, "N out"]:
        """The factors a_j of the synapses' time differences."""
        return e * p.exp()

    def code(self, u: Float[Tensor, "N out"], z: Float[Tensor, "N out"]) -> Float[Tensor, "N out"]:
        """The codes c_j that the synapses' are compared with: u_j is before the passing time."""
        return z

    def feedback(
        self, e: Float[Tensor, "N out"], p: Float[Tensor, "N out"], divisor: Float[Tensor, "N out"]
    ) -> Float[Tensor, "N out"]:
        """What is sent back along the causal synapses, b_j."""
        return e


class ExactGradient(LearningRule):
    """The gradient of z_j = p_j u_j: a_j = b_j = d_j p_j / (S - 1), c_j = u_j."""

    silent_learn = False

    def factor(
        self, e: Float[Tensor, "N out"], p: Float[Tensor, "N out"], divisor: Float[Tensor, "N out"]
    ) -> Float[Tensor, "N out"]:
        """See `LearningRule.factor`."""
        return e * p / divisor

    def code(self, u: Float[Tensor, "N out"], z: Float[Tensor, "N out"]) -> Float[Tensor, "N out"]:
        """See `LearningRule.code`."""
        return u

    def feedback(
        self, e: Float[Tensor, "N out"], p: Float[Tensor, "N out"], divisor: Float[Tensor, "N out"]
    ) -> Float[Tensor, "N out"]:
        """See `LearningRule.feedback`."""
        return e * p / divisor


class PublishedTCA(LearningRule):
    """What the published program computes in its task of temporal credit assignment.

    The paper's rule with every error divided by S - 1 before it teaches its neuron and travels
    back. It is neither of the other two: exp(p_j) and z_j stay.
    """

    silent_divisor = True

    def error(
        self, d: Float[Tensor, "N out"], divisor: Float[Tensor, "N out"]
    ) -> Float[Tensor, "N out"]:
        """See `LearningRule.error`."""
        return d / divisor


RULES: dict[str, LearningRule] = {
    "shifting": LearningRule(),
    "exact": ExactGradient(),
    "published-tca": PublishedTCA(),
}
"""The rules by their words."""

if TYPE_CHECKING:
    Rule = str
else:
    Rule = Literal[tuple(RULES)]
    """A word of `RULES`; command lines take theirs from here."""
