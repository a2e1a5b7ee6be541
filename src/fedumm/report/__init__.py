"""The run folder and everything that people look at: tables, figures, model cards."""
