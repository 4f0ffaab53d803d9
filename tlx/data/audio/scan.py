"""A look at recordings: equal ones by their samples, near copies by maps of their bands."""

import hashlib

from tlx.data.audio.near import map_of, near_sounds
from tlx.data.audio.read import Sound, load_sound
from tlx.data.items import Medium
from tlx.data.scan import Looks


def sound_key(sound: Sound) -> str:
    """A hash of a recording's rate and samples: equal for equal sound, whatever the file."""
    head = f"{sound.rate} {len(sound.samples)}:".encode()
    return hashlib.blake2b(head + sound.samples.tobytes(), digest_size=16).hexdigest()


def _seen(sound: Sound) -> tuple[str, bytes]:
    return sound_key(sound), map_of(sound)


MEDIUM = Medium("recording", "a recording", near_sounds, "re-encoded, resampled or louder")
LOOKS = Looks(MEDIUM, load_sound, _seen, "1")
