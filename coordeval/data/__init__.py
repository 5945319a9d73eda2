"""Images and ground truth: the dataset contract, COCO, prompts, writing order, scenes."""
