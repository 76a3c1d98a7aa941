"""Labels a picture with an exported network. Needs onnxruntime, numpy and Pillow, nothing of this project.

python examples/classify_onnx.py EXPORT_DIR PICTURE
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

folder, picture = Path(sys.argv[1]), sys.argv[2]
about = json.loads((folder / "model.json").read_text())
side = about["input"]["shape"][-1]
image = ImageOps.fit(Image.open(picture).convert("RGB"), (side, side), Image.Resampling.BILINEAR)
pixels = np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255
session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
(logits,) = session.run(["logits"], {"images": pixels})
probabilities = np.exp(logits[0] - logits[0].max())
probabilities /= probabilities.sum()
for index in probabilities.argsort()[::-1][:3]:
    print(f"{about['classes'][index]} {probabilities[index]:.3f}")
