"""A run as a folder that trains without PyTorch: its step as ONNX, its state, and a program."""
