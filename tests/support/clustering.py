"""Token clustering once more, as loops over tokens and clusters in float64: an oracle for the module of the package.

Written after the description of Expedit (Liang et al. 2022, section 3.2), of one image at a time.
"""

import numpy as np


def clustered(tokens, height, width, grid, *, prefix, temperature, radius, iterations=5):
    """Tokens (prefix + H * W, D) of an image: the leading tokens and the centres, and squared distances (H * W, M)."""
    tokens = np.asarray(tokens, np.float64)
    leading, patches = tokens[:prefix], tokens[prefix:]
    centres = _first(patches.reshape(height, width, -1), grid)
    for _ in range(iterations):
        sums, totals = np.zeros_like(centres), np.zeros(len(centres))
        for index, token in enumerate(patches):
            shares = _shares(token, centres, _near(divmod(index, width), (height, width), grid, radius), temperature)
            for cluster, share in shares.items():
                sums[cluster] += share * token
                totals[cluster] += share
        centres = sums / np.maximum(totals, 1e-16)[:, None]
    distances = np.array([[np.sum((token - centre) ** 2) for centre in centres] for token in patches])
    return np.concatenate((leading, centres)), distances


def from_nearest(reduced, distances, prefix):
    """Tokens (prefix + H * W, D): each is the centre that was nearest to it."""
    return np.concatenate((reduced[:prefix], [reduced[prefix + row.argmin()] for row in distances]))


def from_neighbours(reduced, distances, prefix, neighbours, temperature):
    """Tokens (prefix + H * W, D): each is the mean of the centres that were near it, by ``exp(-T d)``."""
    found = []
    for row in distances:
        nearest = np.argsort(row, kind="stable")[:neighbours]
        weights = np.exp(-temperature * (row[nearest] - row.min()))
        found.append(weights @ reduced[prefix + nearest] / weights.sum())
    return np.concatenate((reduced[:prefix], found))


def _first(image, grid):
    """Means of the cells of a grid, as adaptive average pooling has them: (rows * columns, D)."""
    (height, width), (rows, columns) = image.shape[:2], grid
    means = []
    for row in range(rows):
        for column in range(columns):
            top, bottom = row * height // rows, -(-(row + 1) * height // rows)
            left, right = column * width // columns, -(-(column + 1) * width // columns)
            means.append(image[top:bottom, left:right].mean(axis=(0, 1)))
    return np.array(means)


def _near(place, size, grid, radius):
    """Clusters that the token at ``place`` (row, column) may join."""
    home = [at * cells // count for at, cells, count in zip(place, grid, size, strict=True)]
    return [
        row * grid[1] + column
        for row in range(grid[0])
        for column in range(grid[1])
        if abs(row - home[0]) <= radius and abs(column - home[1]) <= radius
    ]


def _shares(token, centres, clusters, temperature):
    """Softmax over the clusters of -T times the squared distance."""
    logits = {cluster: -temperature * float(np.sum((token - centres[cluster]) ** 2)) for cluster in clusters}
    largest = max(logits.values())
    powers = {cluster: np.exp(logit - largest) for cluster, logit in logits.items()}
    return {cluster: power / sum(powers.values()) for cluster, power in powers.items()}
