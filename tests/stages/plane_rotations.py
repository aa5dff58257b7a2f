"""The expansion built the long way, from plane rotations and hyperspherical coordinates, to compare the closed form with."""

from __future__ import annotations

import numpy as np


def rotation_to_first_axis(centre: np.ndarray) -> np.ndarray:
    """(D, D) orthogonal matrix, a product of D-1 plane (Givens) rotations, that takes the unit vector to e1."""
    size = len(centre)
    total = np.eye(size)
    turned = centre.astype(np.float64)
    for k in range(size - 1, 0, -1):
        angle = np.arctan2(turned[k], turned[k - 1])
        plane = np.eye(size)
        plane[k - 1, k - 1] = plane[k, k] = np.cos(angle)
        plane[k - 1, k], plane[k, k - 1] = np.sin(angle), -np.sin(angle)
        turned, total = plane @ turned, plane @ total
    return total


def to_angles(vector: np.ndarray) -> np.ndarray:
    """Hyperspherical angles (D-1,) of a unit vector (D,): the first is the one to e1."""
    angles = [np.arctan2(np.linalg.norm(vector[k + 1 :]), vector[k]) for k in range(len(vector) - 2)]
    return np.array([*angles, np.arctan2(vector[-1], vector[-2])])


def from_angles(angles: np.ndarray) -> np.ndarray:
    """The inverse of `to_angles`."""
    vector, sines = [], 1.0
    for angle in angles:
        vector.append(sines * np.cos(angle))
        sines *= np.sin(angle)
    return np.array([*vector, sines])


def expand_by_rotations(seen: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """The map fitted on `seen` (n, D), applied to `anchors` (C, D)."""
    seen = seen / np.linalg.norm(seen, axis=1, keepdims=True)
    anchors = anchors / np.linalg.norm(anchors, axis=1, keepdims=True)
    mean = seen.mean(axis=0)
    rotation = rotation_to_first_axis(mean / np.linalg.norm(mean))
    theta_max = max(to_angles(rotation @ one)[0] for one in seen)
    moved = []
    for one in anchors:
        angles = to_angles(rotation @ one)
        angles[0] *= (np.pi / 2) / theta_max
        moved.append(rotation.T @ from_angles(angles))
    return np.array(moved)
