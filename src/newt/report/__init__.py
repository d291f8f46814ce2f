"""What Newt shows: the training report, the token inspector's page and its terminal view. Torch-free."""

from newt.report.html import write_report
from newt.report.terminal import show_rows
from newt.report.tokens import tokens_page

__all__ = ["show_rows", "tokens_page", "write_report"]
