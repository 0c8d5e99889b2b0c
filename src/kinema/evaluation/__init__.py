"""From clips to numbers: video-level scores, metrics, cost and latency."""
