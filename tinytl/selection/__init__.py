"""Which weights method Sparse trains, found on the user's images.

By Fisher information, or by what each convolution gains alone.

Source: TinyTrain, Kwon et al. 2024 (Fisher information per memory); MCUNetV3, Lin et al. 2022, section 3.2
(contribution of a layer).
"""
