"""Image networks of timm."""
