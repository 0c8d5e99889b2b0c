"""LightningModules: all training logic in one, and one thin module per architecture."""
