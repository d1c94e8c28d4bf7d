"""Models and clips shared with the other folder of tests."""

from feature_fixtures import bad_video, base_folder, clip, model_folder, videos

__all__ = ["bad_video", "base_folder", "clip", "model_folder", "videos"]
