"""A trained run as files for a device: ONNX, classes, preprocessing.

The ONNX file is compared with PyTorch's own output before it is written.
"""
