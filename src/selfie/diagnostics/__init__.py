"""What a win rate does not show: the labels' calibration and length, and how far and how the policy drifted."""
