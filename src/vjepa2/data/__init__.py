"""Sets of clips, images and arrays: lists and folders in, batches for training out."""
