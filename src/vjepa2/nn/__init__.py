"""Layers: rotary positions, attention, blocks, patch embedding, pooler, initialisation."""
