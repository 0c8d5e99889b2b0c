"""Pictures of what networks do: where they look, what their operators calibrate."""
