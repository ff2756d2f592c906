"""Losses, augmentation and the training loop."""
