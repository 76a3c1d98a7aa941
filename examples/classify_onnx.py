"""Labels a picture with an exported network. Needs onnxruntime, numpy and Pillow, nothing of this project.

python examples/classify_onnx.py EXPORT_DIR PICTURE
python examples/classify_onnx.py model_int8.onnx PICTURE

The file says itself what its classes are, and which input it expects.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

given, picture = Path(sys.argv[1]), sys.argv[2]
model = given / "model.onnx" if given.is_dir() else given
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
classes, side = json.loads(about["classes"]), json.loads(about["input"])["resolution"]
image = ImageOps.fit(Image.open(picture).convert("RGB"), side, Image.Resampling.BILINEAR)
pixels = np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255
(logits,) = session.run(["logits"], {"images": pixels})
probabilities = np.exp(logits[0] - logits[0].max())
probabilities /= probabilities.sum()
for index in probabilities.argsort()[::-1][:3]:
    print(f"{classes[index]} {probabilities[index]:.3f}")
