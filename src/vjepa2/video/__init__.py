"""Video files in and out: reading, sampling, processing, writing and making clips."""
