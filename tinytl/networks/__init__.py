"""Changes to a network: lite residuals, norms, dropout, and which parameters train.

Surgery on `nn.Module`s, independent of data and of training.
"""
