"""Images and labels: found, split, decoded, cropped, batched.

Works without torch until a batch is made on a device.
"""
