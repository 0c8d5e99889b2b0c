"""From files to clips: manifests, sampling, decoding, transforms, the Lightning data module."""
