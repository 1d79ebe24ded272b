from . import figures
from .card import model_card
from .page import write_figures, write_report

__all__ = ["figures", "model_card", "write_figures", "write_report"]
