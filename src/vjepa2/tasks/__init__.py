"""Work that takes a while: training and evaluating models."""
