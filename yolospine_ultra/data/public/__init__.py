"""Public datasets, from their original downloads to YOLO folders that were checked against what was published."""

from yolospine_ultra.data.public.mendeley import prepare_mendeley
from yolospine_ultra.data.public.report import Report
from yolospine_ultra.data.public.rsna import prepare_rsna
from yolospine_ultra.data.public.spider import prepare_spider

__all__ = ("Report", "prepare_mendeley", "prepare_rsna", "prepare_spider")
