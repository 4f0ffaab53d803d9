"""Images: sources, reading, encoding, augmentation."""

MODALITY = "image"
NOUN = ("an image", "images")
