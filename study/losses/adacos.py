"""AdaCos: cosine softmax whose scale follows from the number of classes, or from each batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from study.losses.base import Diverged, LossOutput
from study.losses.proxies import ProxyLoss, cosines
from study.losses.softmax import normalized_softmax

RUNAWAY_FACTOR = 100.0


def dynamic_scale(cosines: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    """The scale for this batch, from the scale of the step before.

        s' = ln(B_avg) / cos(min(pi/4, median angle)),  B_avg = mean_i sum_{c != y_i} exp(s cos_ic)

    The mean is over exponentials, so one hard sample decides. The median of an even number of angles is the lower of
    the middle two.

    Args: cosines (B, C); labels (B,) int64 in [0, C); scale: scalar, dimensionless.
    Returns: scalar, without gradient; it may be 0 or less (few classes, all of them repelled) or not finite.
    Source: Zhang et al. 2019 (AdaCos), Eq. (15), per mini-batch; Sato 2021 says per epoch.
    """
    with torch.no_grad():
        target = labels[:, None]
        others = (scale * cosines).scatter(1, target, -math.inf)
        log_mean = others.flatten().logsumexp(0) - math.log(len(labels))
        median = cosines.gather(1, target).clamp(-1, 1).acos().median()
        return log_mean / median.clamp(max=math.pi / 4).cos()


class AdaCosFixedLoss(ProxyLoss):
    """Cosine softmax with the constant scale sqrt(2) ln(C-1), given as `fixed_scale`.

    Source: Zhang et al. 2019 (AdaCos), Eq. (12).
    """

    def __init__(self, weight: Tensor, fixed_scale: float) -> None:
        super().__init__(weight)
        self.fixed_scale = fixed_scale

    def forward(self, embeddings: Tensor, labels: Tensor, scale: float | None = None) -> LossOutput:
        """The loss of one batch; see LossModule."""
        cosine = cosines(embeddings, self.weight)
        return LossOutput(normalized_softmax(cosine, labels, self.fixed_scale), similarities=cosine.detach())


class AdaCosDynamicLoss(ProxyLoss):
    """Cosine softmax whose scale each training batch sets anew, before it is used; evaluation leaves it alone.

    The scale starts at `fixed_scale`, sqrt(2) ln(C-1). It has no gradient and is state: a buffer, saved.

    The recursion runs away when some non-target cosine stays above cos(min(pi/4, median angle)), most of all in few
    dimensions. It may come back, so only this is said to have diverged: a scale that is not finite, not above 0, or
    above 100 times where it started. There a gap of 0.01 in cosine weighs as much as a perfect fit against an
    orthogonal class did at the start. Of 25 small runs in 2 to 8 dimensions the five that stayed below 45 times
    settled, and the twenty that passed 100 times all went on beyond 1000.
    """

    scale: Tensor

    def __init__(self, weight: Tensor, fixed_scale: float) -> None:
        super().__init__(weight)
        self.bound = RUNAWAY_FACTOR * fixed_scale
        self.register_buffer("scale", torch.tensor(fixed_scale))
        self._steps: list[float] = []

    def forward(self, embeddings: Tensor, labels: Tensor, scale: float | None = None) -> LossOutput:
        """The loss of one batch; see LossModule.

        Raises: Diverged if the scale leaves (0, 100 sqrt(2) ln(C-1)].
        """
        cosine = cosines(embeddings, self.weight)
        if self.training:
            self._update(cosine.detach(), labels)
        return LossOutput(normalized_softmax(cosine, labels, self.scale.clone()), similarities=cosine.detach())

    def _update(self, cosine: Tensor, labels: Tensor) -> None:
        new = dynamic_scale(cosine, labels, self.scale)
        value = new.item()
        if not math.isfinite(value):
            raise Diverged(f"AdaCos's scale became {value} after {self.scale.item():.6g}")
        if value <= 0:
            raise Diverged(f"AdaCos's scale fell to {value:.6g}: all other classes are repelled, so ln(B_avg) <= 0")
        if value > self.bound:
            raise Diverged(
                f"AdaCos's scale ran away: {value:.6g} is above {self.bound:.6g}, {RUNAWAY_FACTOR:g} times its start; "
                "some sample stays too close to another class's proxy"
            )
        self.scale.copy_(new)
        self._steps.append(value)

    def epoch_metrics(self) -> dict[str, float]:
        """`scale`: mean over the training steps since the last call; `scale_last`: the last of them."""
        steps, self._steps = self._steps, []
        return {"scale": math.fsum(steps) / len(steps), "scale_last": steps[-1]} if steps else {}
