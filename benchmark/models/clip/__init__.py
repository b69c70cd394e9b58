"""CLIP: its objective, its encoder, its transforms."""
