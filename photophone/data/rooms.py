"""Impulse responses of simulated rooms: mirror images for the early echoes, decaying noise for the late ones."""

from __future__ import annotations

import math

import numpy as np

SPEED_OF_SOUND = 343.0  # metres a second
SABINE = 0.161  # seconds a metre: the time of decay is SABINE * volume / (surface * absorption)
EARLY_SECONDS = 0.05  # echoes that come sooner support speech; later ones blur it


def image_sources(room: np.ndarray, source: np.ndarray, microphone: np.ndarray, reflection: float,
                  order: int) -> tuple[np.ndarray, np.ndarray]:
    """The mirror images of a source in a box (Allen and Berkley, 1979).

    Args:
        room: lengths of the sides in metres (3,).
        source, microphone: places in it in metres (3,).
        reflection: share of the pressure that each wall gives back, 0 to 1.
        order: most reflections of an image.

    Returns:
        Distances in metres (N,) and pressures (N,), ``reflection ** reflections / (4 pi distance)``, nearest first.
    """
    cells = np.arange(-order, order + 1)
    grids = np.stack(np.meshgrid(cells, cells, cells, indexing="ij"), axis=-1).reshape(-1, 3)  # (M, 3)
    grids = grids[np.abs(grids).sum(axis=1) <= order]  # cell n of an axis is n reflections away
    mirrored = np.where(grids % 2 == 0, source, room - source)
    distances = np.linalg.norm(grids * room + mirrored - microphone, axis=1)
    pressures = reflection ** np.abs(grids).sum(axis=1) / (4 * math.pi * distances)
    nearest = np.argsort(distances, kind="stable")
    return distances[nearest], pressures[nearest]


def image_response(room: np.ndarray, source: np.ndarray, microphone: np.ndarray, reflection: float, order: int,
                   sample_rate: int) -> np.ndarray:
    """Impulse response float32 (T,) of :func:`image_sources`; each arrival is shared by the two nearest samples."""
    distances, pressures = image_sources(room, source, microphone, reflection, order)
    places = distances / SPEED_OF_SOUND * sample_rate
    first = np.floor(places).astype(int)
    response = np.zeros(int(first.max()) + 2)
    np.add.at(response, first, pressures * (1 - (places - first)))
    np.add.at(response, first + 1, pressures * (places - first))
    return response.astype(np.float32)


def decaying_noise(seconds: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """White noise float32 (T,) that falls by 60 dB in ``seconds``."""
    time = np.arange(max(1, round(seconds * sample_rate))) / sample_rate
    return (rng.standard_normal(len(time)) * 10 ** (-3 * time / seconds)).astype(np.float32)


def with_tail(early: np.ndarray, tail: np.ndarray) -> np.ndarray:
    """Early echoes float32 (T,) continued by noise (U,), which is made as loud as they are: (max(T, U),)."""
    join = len(early) // 2  # behind it images of higher orders are missing
    last = slice(join // 2, join)  # where both are compared
    level = float(np.sqrt(np.mean(early[last]**2))) if len(early[last]) else 0.0
    reference = float(np.sqrt(np.mean(tail[last]**2))) if join <= len(tail) else 1.0
    response = np.zeros(max(len(early), len(tail)), np.float32)
    response[:len(early)] = early
    response[join:len(tail)] += tail[join:] * (level / max(reference, 1e-9))
    return response


def random_room(rng: np.random.Generator, sample_rate: int, decay: tuple[float, float] = (0.15, 0.8),
                order: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Impulse response of a random room, and its early part, both beginning with the direct sound of height 1.

    The walls' reflection follows from the time of decay by Sabine's formula. Image sources up to ``order`` make the
    first echoes; noise that decays at the same pace, as loud as the last of them, makes the rest.

    Args:
        rng: of the room, the places and the noise.
        sample_rate: in Hz.
        decay: range of the time in which sound falls by 60 dB, in seconds.
        order: of the image sources.

    Returns:
        Two float32 (T,); the early part ends ``EARLY_SECONDS`` after the direct sound, smoothly.
    """
    room = np.array([rng.uniform(3, 9), rng.uniform(2.5, 7), rng.uniform(2.3, 3.6)])
    source = rng.uniform(0.3, room - 0.3)
    microphone = rng.uniform(0.3, room - 0.3)
    seconds = float(rng.uniform(*decay))
    volume = room.prod()
    surface = 2 * (room[0] * room[1] + room[0] * room[2] + room[1] * room[2])
    absorption = min(0.95, SABINE * volume / (surface * seconds))
    early = image_response(room, source, microphone, math.sqrt(1 - absorption), order, sample_rate)
    direct = int(np.argmax(early > 0))  # the first arrival
    response = with_tail(early, decaying_noise(seconds, sample_rate, rng))
    # an arrival is shared by two samples: the sum of the first two is the direct sound
    response = response[direct:] / max(float(early[direct:direct + 2].sum()), 1e-9)
    length = min(len(response), round(EARLY_SECONDS * sample_rate))
    fade = np.clip((length - np.arange(length)) / (0.2 * length), 0, 1).astype(np.float32)
    return response.astype(np.float32), (response[:length] * fade).astype(np.float32)
