"""Pure torch: tensors in, tensors out; no files, no environments, no history."""
