"""Errors, files, options, languages, manifests and audio, which every room uses."""
