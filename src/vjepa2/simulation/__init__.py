"""A robot arm in simulation (MuJoCo; extra `sim`): recordings, problems to solve, baselines."""
