"""Images: sources, reading, encoding, augmentation."""
