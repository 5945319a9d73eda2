"""One teacher-forced pass of a checkpoint over texts, and what it says about exposure bias."""
