"""Model folders in Hugging Face's layout: found, read, written, compared and published."""
