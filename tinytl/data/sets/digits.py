"""The 1,797 handwritten digits that scikit-learn ships: 10 classes, grey, 8x8 pixels.

Source: UCI optdigits (Alpaydin and Kaynak, 1998), its test part; CC BY 4.0.
"""

import numpy as np

from tinytl.data.splits import DataSplits, ImageSet, three_way


def load_digits() -> DataSplits:
    """Returns the digits in three splits.

    Crops keep 60 %: digits are centred and fill the picture. No mirroring: a mirrored digit is another sign
    or none.
    """
    from sklearn.datasets import load_digits as read

    bunch = read()
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    whole = ImageSet(np.repeat(grey[..., None], 3, axis=3), bunch.target.astype(np.int64))
    classes = tuple(str(digit) for digit in range(10))
    return DataSplits("digits", classes, *three_way(whole), crop_scale_min=0.6, flip=False)
