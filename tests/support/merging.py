"""Token merging once more, as loops over tokens in float64: an oracle for the module of the package.

Written after the description of ToMe (Bolya et al. 2023, section 3), of one image at a time.
"""

import numpy as np


def merged(tokens, percent, *, prefix):
    """Tokens (prefix + N, D) of an image, each with the value of what it became; and the number of merges."""
    tokens = np.asarray(tokens, np.float64)
    found, patches = tokens.copy(), tokens[prefix:]
    merges = len(patches) * percent // 100
    pairs = [(*_partner(patches, index), index) for index in range(1, len(patches), 2)]
    pairs.sort(key=lambda pair: (-pair[0], pair[2]))
    groups = {index: [index] for index in range(0, len(patches), 2)}
    for _, partner, index in pairs[:merges]:
        groups[partner].append(index)
    for members in groups.values():
        mean = sum(patches[index] for index in members) / len(members)
        for index in members:
            found[prefix + index] = mean
    return found, merges


def _partner(patches, index):
    """Cosine with the most similar token at an even place, and that place; the first of equal ones."""
    best, place = -2.0, -1
    for other in range(0, len(patches), 2):
        one, two = patches[index], patches[other]
        cosine = float(np.dot(one, two) / (np.linalg.norm(one) * np.linalg.norm(two)))
        if cosine > best:
            best, place = cosine, other
    return best, place
