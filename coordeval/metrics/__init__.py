"""Objects to numbers: matching, COCO, repeats, parse health, confidence, and their catalogue."""
