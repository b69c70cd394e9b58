"""MoCo v3: its objective, its encoder, its views."""
