"""Networks on streams: frames of a file, a folder, a camera or a network in, a prediction for each frame out.

Underneath, a causal network has `init_state(batch, size)` and `step(frame, state)`, see `kinema.models.streaming.Streaming`;
`kinema.streaming.session.StreamSession` prepares the frames, keeps the state and averages the scores.
"""
