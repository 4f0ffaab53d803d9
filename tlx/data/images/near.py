"""Near copies among images: re-encoded, resized or mirrored ones, by small thumbnails.

Shapes: N images, P values of a thumbnail, F low frequencies, C colours, M pairs.
"""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

LOG = logging.getLogger(__name__)
Values = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]

SIDE, COLOUR_SIDE = 16, 4
BYTES = SIDE * SIDE + 3 * COLOUR_SIDE * COLOUR_SIDE
MOST_IMAGES = 50_000
"""More are not compared: the look, which grows with the square, would take longer than reading."""

LOW = 6
"""Frequencies each way that are compared, so that neither blocks of JPEG nor the filter of a
resize counts."""
LEAST_ALIKE = 0.97
"""Correlation of the low frequencies of two grey thumbnails of one picture."""
MOST_GREY, MOST_COLOUR = 7.0, 16.0
"""Of 255: difference of these frequencies (root of the mean square), largest of the colours."""
LEAST_CONTRAST = 3.0
"""Deviation of a thumbnail, of 255, below which it shows too little to tell it from others."""
AT_ONCE = 512
MOST_CANDIDATES = 64
"""A mean over images; where more are alike all are of a kind (digits, forms), and no copies."""


def thumbnail(image: Image.Image) -> bytes:
    """A grey thumbnail of 16 × 16 and one of 4 × 4 in colour, as bytes."""
    # by whole steps first, which takes a tenth of the time
    gap = max(1, min(image.width, image.height) // (4 * SIDE))
    small = (image.reduce(gap) if gap > 1 else image).convert("RGB")
    small = small.resize((SIDE, SIDE), Image.Resampling.BOX)
    return small.convert("L").tobytes() + small.reduce(SIDE // COLOUR_SIDE).tobytes()


def near_pairs(thumbnails: Sequence[bytes | None]) -> Iterator[tuple[int, int, bool]]:
    """Positions of images of one picture, the lower first, and whether one is mirrored.

    Args:
        thumbnails: of the images; an empty one, or none, is of an image that was not looked at.
    """
    places = [i for i, each in enumerate(thumbnails) if each and len(each) == BYTES]
    if len(places) > MOST_IMAGES:
        LOG.info("no look for near copies: %d images, more than %d", len(places), MOST_IMAGES)
        return
    waves_NF, colours_NC = _described([thumbnails[i] or b"" for i in places])
    shows = np.flatnonzero(np.linalg.norm(waves_NF, axis=1) >= LEAST_CONTRAST * SIDE)
    waves_NF, colours_NC = waves_NF[shows], colours_NC[shows]
    across = np.arange(LOW * LOW) % LOW % 2
    for mirrored in (False, True):
        # a mirrored picture has its odd waves across, and its colours, turned round
        turned_NF = np.where(across, -waves_NF, waves_NF) if mirrored else waves_NF
        turned_NC = colours_NC[:, :, ::-1] if mirrored else colours_NC
        for first_M, second_M in _candidates(waves_NF, turned_NF):
            far_MF = waves_NF[first_M] - turned_NF[second_M]
            grey_M = np.sqrt(np.square(far_MF).sum(1)) / SIDE
            colour_M = np.abs(colours_NC[first_M] - turned_NC[second_M]).max(axis=(1, 2, 3))
            same_M = (grey_M <= MOST_GREY) & (colour_M <= MOST_COLOUR)
            pairs = zip(shows[first_M[same_M]], shows[second_M[same_M]], strict=True)
            yield from ((places[one], places[other], mirrored) for one, other in pairs)


def _described(thumbnails: Sequence[bytes]) -> tuple[Values, Values]:
    """Low frequencies of the grey thumbnails [N, F], brightness aside, and colours [N, h, w, 3]."""
    from scipy.fft import dctn  # slow to import

    values_NP = np.frombuffer(b"".join(thumbnails), dtype=np.uint8).reshape(-1, BYTES)
    waves_NF = np.zeros((len(values_NP), LOW * LOW), dtype=np.float32)
    for start in range(0, len(values_NP), AT_ONCE):
        grey = values_NP[start : start + AT_ONCE, : SIDE * SIDE].reshape(-1, SIDE, SIDE)
        waves = dctn(grey.astype(np.float32), axes=(1, 2), norm="ortho")[:, :LOW, :LOW]
        waves[:, 0, 0] = 0
        waves_NF[start : start + AT_ONCE] = waves.reshape(len(waves), -1)
    colours = values_NP[:, SIDE * SIDE :].reshape(-1, COLOUR_SIDE, COLOUR_SIDE, 3)
    return waves_NF, colours.astype(np.float32)


def _candidates(waves_NF: Values, turned_NF: Values) -> Iterator[tuple[Places, Places]]:
    """Pairs of places, in parts, of which the first's waves correlate with the second's turned."""
    if len(waves_NF) < 2:
        return
    unit_NF = waves_NF / np.linalg.norm(waves_NF, axis=1, keepdims=True)
    turned_NF = turned_NF / np.linalg.norm(turned_NF, axis=1, keepdims=True)
    # unit vectors that correlate so much differ by no more in any wave: sorted by the wave that
    # varies most down, which no mirror turns, those in reach are neighbours
    down = LOW * np.arange(1, LOW)
    sorted_by = down[unit_NF[:, down].std(axis=0).argmax()]
    reach = (2 * (1 - LEAST_ALIKE)) ** 0.5
    order_N = np.argsort(unit_NF[:, sorted_by], kind="stable")
    unit_NF, turned_NF = unit_NF[order_N], turned_NF[order_N]
    ends_N = np.searchsorted(unit_NF[:, sorted_by], unit_NF[:, sorted_by] + reach, side="right")
    for start in range(0, len(unit_NF), AT_ONCE):
        some = unit_NF[start : start + AT_ONCE]
        end = int(ends_N[start + len(some) - 1])
        alike = some @ turned_NF[start:end].T >= LEAST_ALIKE
        # each pair once; an image that is its own mirror is no pair
        first_M, second_M = np.nonzero(np.triu(alike, k=1))
        if len(first_M) > MOST_CANDIDATES * len(some):
            continue
        pair_2M = np.sort(order_N[start + np.stack([first_M, second_M])], axis=0)
        yield pair_2M[0], pair_2M[1]
