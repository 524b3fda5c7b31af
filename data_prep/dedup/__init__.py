"""Near and exact duplicates of any number of documents in bounded memory; read ``run.py`` first."""
