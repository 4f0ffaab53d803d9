"""Sound: sources, reading, front ends, augmentation."""

MODALITY = "audio"
NOUN = ("a recording", "recordings")
