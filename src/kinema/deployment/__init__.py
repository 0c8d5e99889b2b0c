"""Trained networks outside of training: predictions on one's own videos, export to other programs, a web page."""
