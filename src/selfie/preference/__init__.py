"""The heart: direct preference judgment, noise detection and the noise-aware loss.

Pure torch, no I/O, no models: a reviewer checks it against the paper (Kim et al., "Spread Preference
Annotation", arXiv 2406.04412) in one sitting.
"""
