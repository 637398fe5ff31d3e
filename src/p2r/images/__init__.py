"""Images: loaded upright and bounded, sized to a pixel budget, resized exactly."""
