"""What a served model does with images, boxes and settings: found out by asking, and said with its consequences."""
