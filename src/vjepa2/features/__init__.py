"""From video files to results: features, labels, files of them, pictures and reports."""
