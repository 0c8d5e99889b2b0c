"""Networks on streams: frames of a file, a folder, a camera or a network in, a prediction for each frame out."""
