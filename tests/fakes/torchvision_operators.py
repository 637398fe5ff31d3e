"""The names of torchvision's operators. Its wheel links CUDA, so over a CPU build of torch none of them is there."""

FORWARD = ("nms", "qnms", "roi_align", "qroi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")
BACKWARD = tuple(
    f"_{name}_backward" for name in ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")
)
OPERATORS = (*FORWARD, *BACKWARD)
