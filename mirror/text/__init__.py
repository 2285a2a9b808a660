"""Text of a page: decoding, folding, extraction."""
