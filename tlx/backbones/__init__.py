"""Pretrained networks behind one protocol, one function a source."""
