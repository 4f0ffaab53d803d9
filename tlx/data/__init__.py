"""Splits of images from every source, their encoding and their augmentation."""
