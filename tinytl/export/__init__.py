"""A trained run as files for a device: ONNX, classes, preprocessing.

What is written is compared with PyTorch's own answers first.
"""
