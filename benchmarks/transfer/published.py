"""Published figures to compare with ours: percent of images (top-1), megabytes as given."""

PAPER = "TinyTL paper, table 2 (ProxylessNAS-Mobile, 224 px, 50 epochs; CIFAR10 test)"
"""Cai, Gan, Zhu and Han, NeurIPS 2020, arXiv:2007.11622. Memory by the authors' formula, batch 8."""
PAPER_CIFAR10 = {
    "FT-Last": (31, 85.9),
    "TinyTL-B": (32, 93.7),
    "TinyTL-L": (37, 96.1),
    "TinyTL-L+B": (37, 95.9),
    "FT-Norm+Last": (192, 94.8),
    "FT-Full": (391, 97.1),
}

TINYTL_REPORT = "the user's TinyTL report (CIFAR10, 224 px, Adam 3e-4, cosine, batch 8, 50 epochs)"
"""Memory is what the GPU's driver showed for the process; the accuracies are titled "Train accuracy"."""
TINYTL_REPORT_CIFAR10 = {
    "mobilenet_v2": {
        "FT-Last": (990, 76.37),
        "TinyTL-B": (756, 90.76),
        "TinyTL-L": (775, 93.26),
        "TinyTL-L+B": (799, 94.22),
        "FT-Norm+Last": (1004, 93.44),
        "FT-Full": (1298, 96.16),
    },
    "proxylessnas_mobile": {
        "FT-Last": (613, 81.74),
        "TinyTL-B": (442, 93.01),
        "TinyTL-L": (471, 95.05),
        "TinyTL-L+B": (486, 95.93),
        "FT-Norm+Last": (639, 94.64),
        "FT-Full": (712, 96.80),
    },
}
CHECKPOINT_REPORT = "the user's report (MobileNetV2, 224 px, MB of the process on a GPU)"
CHECKPOINT_REPORT_MB = {1: (821, 817), 8: (1318, 912), 16: (2105, 1393), 32: (3541, 2119), 64: (7492, 3291)}
"""By batch size: memory without and with a checkpoint at every inverted residual."""

FINETUNE_REPORT = "the user's report on separate learning rates (MobileNetV2)"
FINETUNE_REPORT_MB = {"FT-Full": (1756, 6225), "TinyTL-L": (849, 3125), "FT-Last": (1157, 5426)}
"""MB on a GPU with batches of 1 and of 64; TinyTL is lite residuals (2 groups) and the last layer."""
FINETUNE_CHECKPOINT_MB = {1: (923, 877), 16: (2183, 1473)}
"""By batch size: MB on a GPU without and with a checkpoint at every inverted residual."""
FINETUNE_REPORT_TOP1 = {
    "CIFAR10, whole network, Adam": 96.224,
    "CIFAR10, TinyTL, Adam": 93.6,
    "CIFAR10, biases, Adam": 71.2,
    "CIFAR10, from scratch": 94.8,
    "Cars": 87.295,
    "Food101": 81.124,
    "CIFAR100": 73.242,
    "CUB-200-2011": 78.141,
    "ImageNet": 70.241,
}
"""Validation accuracy; separate learning rates unless it says otherwise."""
