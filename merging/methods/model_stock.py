"""Model Stock."""

import math
from itertools import combinations

from merging.vectors import Tensor, dot, task_vectors, weighted_sum

MODELS = (2, math.inf)


def model_stock(base: Tensor, models: list[Tensor]) -> Tensor:
    """Model Stock: interpolates between base and mean, the nearer to the mean the better the fine-tunes agree.

    Formula: t mean_i theta_i + (1 - t) theta_0, t = n cos / (1 + (n - 1) cos), cos the mean cosine between the tau_i
    Source: Jang et al. 2024 (Model Stock), arXiv:2403.19522, equation 7
    """
    count = len(models)
    mean = weighted_sum(models, [1.0] * count, True)
    vectors = task_vectors(base, models)
    squares = [dot(vector, vector) for vector in vectors]
    cosines = [
        max(-1.0, min(1.0, dot(vectors[i], vectors[j]) / max(math.sqrt(squares[i] * squares[j]), 1e-6)))
        for i, j in combinations(range(count), 2)
    ]
    cosine = sum(cosines) / len(cosines)
    divisor = 1 + (count - 1) * cosine
    t = count * cosine / divisor if abs(divisor) >= 1e-6 else 0.0
    return mean * t + base * (1 - t)
